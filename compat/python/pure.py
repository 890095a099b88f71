"""kafka-python."""

import uuid

from check import equal, main, until
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.structs import OffsetAndMetadata

CODECS = [None, "gzip"]


def name(kind):
    return f"{kind}-{uuid.uuid4().hex[:12]}"


def create(bootstrap, partitions=2):
    topic = name("kafka-python")
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics([NewTopic(topic, partitions, 1)])
    admin.close()
    return topic


def send(bootstrap, topic, values, partition=None, **settings):
    producer = KafkaProducer(bootstrap_servers=bootstrap, **settings)
    for value in values:
        producer.send(topic, value, partition=partition).get(30)
    producer.close()


def consumer(bootstrap, topic, group=None, **settings):
    return KafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        **settings,
    )


def read(client, count):
    records = []

    def enough():
        for batch in client.poll(timeout_ms=500).values():
            records.extend(batch)
        return len(records) >= count

    until(enough, f"{count} records")
    return records


def values(records):
    return sorted(record.value for record in records)


def produce_and_consume(bootstrap):
    topic, expected = create(bootstrap), []
    for codec in CODECS:
        sent = [f"{codec}-{number}".encode() for number in range(50)]
        send(bootstrap, topic, sent, compression_type=codec)
        expected += sent
    reader = consumer(bootstrap, topic)
    equal(values(read(reader, 100)), sorted(expected))
    reader.close()


def groups(bootstrap):
    topic, group = create(bootstrap), name("group")
    first, second = consumer(bootstrap, topic, group), consumer(bootstrap, topic, group)

    def shared():
        first.poll(timeout_ms=100)
        second.poll(timeout_ms=100)
        return len(first.assignment()) == 1 and len(second.assignment()) == 1

    until(shared, "a partition for each member", 60)
    for partition in range(2):
        send(bootstrap, topic, [f"{partition}".encode()], partition)
    equal(values(read(first, 1) + read(second, 1)), [b"0", b"1"])
    first.commit()
    second.commit()
    second.close()

    def alone():
        first.poll(timeout_ms=100)
        return len(first.assignment()) == 2

    until(alone, "all partitions for the one that stays", 60)
    first.close()
    again = consumer(bootstrap, topic, group)
    send(bootstrap, topic, [b"resumed"], 0)
    equal(values(read(again, 1)), [b"resumed"])
    again.close()


def idempotence(bootstrap):
    topic = create(bootstrap, 1)
    sent = [f"{number:02}".encode() for number in range(30)]
    send(bootstrap, topic, sent, enable_idempotence=True)
    reader = consumer(bootstrap, topic)
    equal([record.value for record in read(reader, 30)], sent)
    reader.close()


def transactions(bootstrap):
    topic = create(bootstrap, 1)
    producer = KafkaProducer(bootstrap_servers=bootstrap, transactional_id=name("id"))
    producer.init_transactions()
    for outcome in [b"committed", b"aborted", b"committed too"]:
        producer.begin_transaction()
        producer.send(topic, outcome)
        producer.flush(30)
        if outcome == b"aborted":
            producer.abort_transaction()
        else:
            producer.commit_transaction()
    reader = consumer(bootstrap, topic, isolation_level="read_committed")
    equal(values(read(reader, 2)), [b"committed", b"committed too"])
    equal(reader.poll(timeout_ms=500), {})
    reader.close()
    producer.close()


def exactly_once(bootstrap):
    source, sink, group = create(bootstrap, 1), create(bootstrap, 1), name("group")
    send(bootstrap, source, [f"{number}".encode() for number in range(10)])
    identity, at = name("id"), TopicPartition(source, 0)
    for outcome in ["abort", "commit"]:
        producer = KafkaProducer(bootstrap_servers=bootstrap, transactional_id=identity)
        producer.init_transactions()
        reader = consumer(bootstrap, source, group, isolation_level="read_committed")
        records = read(reader, 10)
        equal(len(records), 10)
        producer.begin_transaction()
        for record in records:
            producer.send(sink, record.value)
        offsets = {at: OffsetAndMetadata(records[-1].offset + 1, "", -1)}
        producer.send_offsets_to_transaction(offsets, group)
        if outcome == "abort":
            producer.abort_transaction()
            equal(reader.committed(at), None)
        else:
            producer.commit_transaction()
            until(lambda: reader.committed(at) == 10, "the offset")
        reader.close()
        producer.close()
    reader = consumer(bootstrap, sink, isolation_level="read_committed")
    equal(len(read(reader, 10)), 10)
    equal(reader.poll(timeout_ms=500), {})
    reader.close()


def administration(bootstrap):
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    topic = create(bootstrap, 1)
    assert topic in admin.list_topics()
    admin.create_partitions({topic: 3})
    equal(len(admin.describe_topics([topic])[0]["partitions"]), 3)
    admin.delete_topics([topic])
    until(lambda: topic not in admin.list_topics(), "the topic to go")
    admin.close()


main(
    {
        "produce and consume": produce_and_consume,
        "classic groups": groups,
        "idempotence": idempotence,
        "transactions": transactions,
        "exactly once": exactly_once,
        "administration": administration,
    }
)
