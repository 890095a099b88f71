"""confluent-kafka, which stands on librdkafka."""

import uuid

from check import equal, main, until
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def name(kind):
    return f"{kind}-{uuid.uuid4().hex[:12]}"


def create(bootstrap, partitions=4):
    topic = name("confluent")
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(30)
    return topic


def producer(bootstrap, **settings):
    return Producer({"bootstrap.servers": bootstrap, **settings})


def send(client, topic, values, **about):
    failures = []
    for value in values:
        client.produce(topic, value=value, on_delivery=lambda e, _: e and failures.append(e), **about)
    equal(client.flush(30), 0)
    equal(failures, [])


def consumer(bootstrap, group, **settings):
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            **settings,
        }
    )


def read(client, count, limit=30):
    records = []

    def enough():
        record = client.poll(0.5)
        if record is not None:
            if record.error():
                raise KafkaException(record.error())
            records.append(record)
        return len(records) >= count

    until(enough, f"{count} records", limit)
    return records


def values(records):
    return sorted(record.value() for record in records)


def produce_and_consume(bootstrap):
    topic = create(bootstrap)
    for codec in CODECS:
        client = producer(bootstrap, **{"compression.type": codec})
        send(client, topic, [f"{codec}-{n}" for n in range(200)], headers=[("a", b"1"), ("a", None)])
    reader = consumer(bootstrap, name("group"))
    reader.subscribe([topic])
    records = read(reader, 1000)
    expected = sorted(f"{codec}-{n}".encode() for codec in CODECS for n in range(200))
    equal(values(records), expected)
    equal(records[0].headers(), [("a", b"1"), ("a", None)])
    reader.close()


def auto_creation(bootstrap):
    topic = name("confluent")
    send(producer(bootstrap), topic, ["first"])
    reader = consumer(bootstrap, name("group"))
    reader.subscribe([topic])
    equal(values(read(reader, 1)), [b"first"])
    reader.close()


def acknowledgements(bootstrap):
    topic = create(bootstrap, 1)
    for acks in ["0", "1", "all"]:
        send(producer(bootstrap, acks=acks), topic, [f"acks {acks}"])
    reader = consumer(bootstrap, name("group"))
    reader.subscribe([topic])
    equal(values(read(reader, 3)), [b"acks 0", b"acks 1", b"acks all"])
    reader.close()


def offsets_by_time(bootstrap):
    topic = create(bootstrap, 1)
    client = producer(bootstrap)
    for stamp in [1000, 2000, 3000]:
        send(client, topic, [f"at {stamp}"], timestamp=stamp)
    reader = consumer(bootstrap, name("group"))
    found = reader.offsets_for_times([TopicPartition(topic, 0, 1500)], timeout=30)
    equal(found[0].offset, 1)
    equal(reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=30), (0, 3))
    reader.close()


def share(bootstrap, **settings):
    """Two members share; what one has committed the other goes on from."""
    topic, group = create(bootstrap, 4), name("group")
    first = consumer(bootstrap, group, **settings)
    second = consumer(bootstrap, group, **settings)
    first.subscribe([topic])
    second.subscribe([topic])

    def shared():
        for member in [first, second]:
            record = member.poll(0.1)
            assert record is None or record.error() is None, record.error()
        return len(first.assignment()) == 2 and len(second.assignment()) == 2

    until(shared, "two partitions for each member", 60)
    client = producer(bootstrap)
    for partition in range(4):
        send(client, topic, [f"{partition}"], partition=partition)
    equal(values(read(first, 2) + read(second, 2)), [b"0", b"1", b"2", b"3"])
    first.commit(asynchronous=False)
    second.commit(asynchronous=False)
    second.close()

    def alone():
        record = first.poll(0.1)
        assert record is None or record.error() is None, record.error()
        return len(first.assignment()) == 4

    until(alone, "all partitions for the one that stays", 60)
    send(client, topic, ["after"], partition=3)
    equal(values(read(first, 1)), [b"after"])
    first.commit(asynchronous=False)
    first.close()
    again = consumer(bootstrap, group, **settings)
    again.subscribe([topic])
    send(client, topic, ["resumed"], partition=0)
    equal(values(read(again, 1, 60)), [b"resumed"])
    again.close()


def classic_groups(bootstrap):
    for strategy in ["range", "roundrobin", "cooperative-sticky"]:
        share(bootstrap, **{"partition.assignment.strategy": strategy})


def static_membership(bootstrap):
    """A static member that comes back takes its place: the other one sees no rebalance."""
    topic, group = create(bootstrap, 2), name("group")
    changes = []

    def start(instance):
        member = consumer(
            bootstrap, group, **{"group.instance.id": instance, "heartbeat.interval.ms": 500}
        )

        def changed(_, partitions):
            changes.append((instance, len(partitions)))

        member.subscribe([topic], on_assign=changed, on_revoke=changed)
        return member

    def settled(*members):
        def each_has_one():
            for member in members:
                record = member.poll(0.1)
                assert record is None or record.error() is None, record.error()
            return all(len(member.assignment()) == 1 for member in members)

        until(each_has_one, "a partition for each member", 60)
        # The generation, and what else stays; a static member that comes back has another id.
        return [one.consumer_group_metadata().replace(one.memberid().encode(), b"") for one in members]

    first, second = start("one"), start("two")
    metadata = settled(first, second)
    owned, identity = first.assignment(), second.memberid()
    first.close()
    changes.clear()
    first = start("one")
    equal(settled(first, second), metadata)
    equal(first.assignment(), owned)
    # Were there a rebalance, the next heartbeat would say so.
    for _ in range(20):
        equal(second.poll(0.1), None)
    equal(settled(first, second), metadata)
    equal(second.memberid(), identity)
    equal(changes, [("one", 1)])
    first.close()
    second.close()


def next_generation_groups(bootstrap):
    protocol = {"group.protocol": "consumer"}
    share(bootstrap, **protocol)
    share(bootstrap, **protocol, **{"group.remote.assignor": "range"})
    topic, group = create(bootstrap, 2), name("group")
    member = consumer(bootstrap, group, **protocol)
    member.subscribe([f"^{topic[:-1]}.*"])
    send(producer(bootstrap), topic, ["by pattern"])
    equal(values(read(member, 1)), [b"by pattern"])
    admin = AdminClient({"bootstrap.servers": bootstrap})
    described = admin.describe_consumer_groups([group])[group].result(30)
    equal(described.type.name, "CONSUMER")
    equal(described.state.name, "STABLE")
    equal(len(described.members), 1)
    member.close()


def idempotence(bootstrap):
    topic = create(bootstrap, 1)
    client = producer(bootstrap, **{"enable.idempotence": True, "linger.ms": 0})
    for number in range(50):
        send(client, topic, [f"{number:02}"])
    reader = consumer(bootstrap, name("group"))
    reader.subscribe([topic])
    equal([r.value().decode() for r in read(reader, 50)], [f"{n:02}" for n in range(50)])
    reader.close()


def transactional(bootstrap, identity):
    client = producer(bootstrap, **{"transactional.id": identity})
    client.init_transactions(30)
    return client


def transactions(bootstrap):
    topic, identity = create(bootstrap, 2), name("id")
    client = transactional(bootstrap, identity)
    for outcome in ["committed", "aborted", "committed too"]:
        client.begin_transaction()
        for partition in range(2):
            client.produce(topic, value=outcome, partition=partition)
        client.flush(30)
        if outcome == "aborted":
            client.abort_transaction(30)
        else:
            client.commit_transaction(30)
    client.begin_transaction()
    client.produce(topic, value="open", partition=0)
    client.flush(30)
    for isolation, expected in [
        ("read_committed", [b"committed", b"committed too"] * 2),
        ("read_uncommitted", [b"committed", b"aborted", b"committed too"] * 2 + [b"open"]),
    ]:
        reader = consumer(bootstrap, name("group"), **{"isolation.level": isolation})
        reader.subscribe([topic])
        equal(values(read(reader, len(expected))), sorted(expected))
        equal(reader.poll(1), None)
        reader.close()
    successor = transactional(bootstrap, identity)
    try:
        client.commit_transaction(30)
        raise AssertionError("a producer that was replaced has committed")
    except KafkaException as refused:
        equal(refused.args[0].code(), KafkaError._FENCED)
    successor.begin_transaction()
    successor.produce(topic, value="after", partition=0)
    successor.commit_transaction(30)


def exactly_once(bootstrap):
    """Consume, transform, produce: offsets and records are committed together."""
    source, sink = create(bootstrap, 1), create(bootstrap, 1)
    group, identity = name("group"), name("id")
    send(producer(bootstrap), source, [f"{number}" for number in range(20)])
    for outcome in ["abort", "commit", "commit"]:
        client = transactional(bootstrap, identity)
        reader = consumer(
            bootstrap, group, **{"isolation.level": "read_committed", "enable.auto.commit": False}
        )
        reader.subscribe([source])
        client.begin_transaction()
        taken = read(reader, 10)[:10]
        for record in taken:
            client.produce(sink, value=b"seen " + record.value(), partition=0)
        position = [TopicPartition(source, 0, taken[-1].offset() + 1)]
        client.send_offsets_to_transaction(position, reader.consumer_group_metadata(), 30)
        if outcome == "abort":
            client.abort_transaction(30)
        else:
            client.commit_transaction(30)
        reader.close()
        if outcome == "abort":
            admin = AdminClient({"bootstrap.servers": bootstrap})
            asked = [ConsumerGroupTopicPartitions(group, [TopicPartition(source, 0)])]
            found = admin.list_consumer_group_offsets(asked)[group].result(30)
            equal(found.topic_partitions[0].offset, -1001)
    reader = consumer(bootstrap, name("group"), **{"isolation.level": "read_committed"})
    reader.subscribe([sink])
    found = sorted(int(r.value().split()[1]) for r in read(reader, 20))
    equal(found, list(range(20)))
    reader.close()


def administration(bootstrap):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    topic = create(bootstrap, 2)
    assert topic in admin.list_topics(timeout=30).topics
    admin.create_partitions([NewPartitions(topic, 3)])[topic].result(30)
    equal(len(admin.list_topics(topic, timeout=30).topics[topic].partitions), 3)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    change = ConfigEntry("retention.ms", "60000", incremental_operation=AlterConfigOpType.SET)
    altered = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[change])
    admin.incremental_alter_configs([altered])[altered].result(30)
    configs = admin.describe_configs([resource])[resource].result(30)
    equal(configs["retention.ms"].value, "60000")
    node = ConfigResource(ConfigResource.Type.BROKER, "0")
    assert admin.describe_configs([node])[node].result(30)["num.partitions"].value
    send(producer(bootstrap), topic, ["a", "b"], partition=0)
    admin.delete_records([TopicPartition(topic, 0, 1)])
    ends = admin.list_offsets({TopicPartition(topic, 0): OffsetSpec.latest()})
    equal(next(iter(ends.values())).result(30).offset, 2)
    equal(len(admin.describe_cluster().result(30).nodes), 1)
    admin.delete_topics([topic])[topic].result(30)
    until(lambda: topic not in admin.list_topics(timeout=30).topics, "the topic to go")


def groups_from_outside(bootstrap):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    topic, group = create(bootstrap, 1), name("group")
    send(producer(bootstrap), topic, ["a", "b"])
    member = consumer(bootstrap, group)
    member.subscribe([topic])
    read(member, 2)
    member.commit(asynchronous=False)
    assert group in [one.group_id for one in admin.list_consumer_groups().result(30).valid]
    described = admin.describe_consumer_groups([group])[group].result(30)
    equal(described.state.name, "STABLE")
    equal([len(one.assignment.topic_partitions) for one in described.members], [1])
    member.close()
    change = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 1)])
    admin.alter_consumer_group_offsets([change])[group].result(30)
    asked = [ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0)])]
    found = admin.list_consumer_group_offsets(asked)[group].result(30)
    equal(found.topic_partitions[0].offset, 1)
    admin.delete_consumer_groups([group])[group].result(30)


main(
    {
        "produce and consume": produce_and_consume,
        "auto-creation": auto_creation,
        "acknowledgements": acknowledgements,
        "offsets by time": offsets_by_time,
        "classic groups": classic_groups,
        "static membership": static_membership,
        "next-generation groups": next_generation_groups,
        "idempotence": idempotence,
        "transactions": transactions,
        "exactly once": exactly_once,
        "administration": administration,
        "groups from outside": groups_from_outside,
    }
)
