"""aiokafka."""

import asyncio
import uuid

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from check import LIMIT, equal, main

CODECS = [None, "gzip", "snappy", "lz4", "zstd"]


def name(kind):
    return f"{kind}-{uuid.uuid4().hex[:12]}"


async def create(bootstrap, partitions=2):
    topic = name("aiokafka")
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, partitions, 1)])
    await admin.close()
    return topic


async def send(bootstrap, topic, values, partition=None, **settings):
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, **settings)
    await producer.start()
    for value in values:
        await producer.send_and_wait(topic, value, partition=partition)
    await producer.stop()


async def started(bootstrap, topics, group=None, **settings):
    consumer = AIOKafkaConsumer(
        *topics,
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        **settings,
    )
    await consumer.start()
    return consumer


async def read(consumer, count):
    records = []
    async with asyncio.timeout(LIMIT):
        while len(records) < count:
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                records += batch
    return records


def values(records):
    return sorted(record.value for record in records)


async def produce_and_consume(bootstrap):
    topic = await create(bootstrap)
    expected = []
    for codec in CODECS:
        sent = [f"{codec}-{number}".encode() for number in range(50)]
        await send(bootstrap, topic, sent, compression_type=codec)
        expected += sent
    consumer = await started(bootstrap, [topic])
    equal(values(await read(consumer, 250)), sorted(expected))
    await consumer.stop()


async def groups(bootstrap):
    topic, group = await create(bootstrap), name("group")
    first = await started(bootstrap, [topic], group)
    second = await started(bootstrap, [topic], group)
    async with asyncio.timeout(LIMIT):
        while len(first.assignment()) != 1 or len(second.assignment()) != 1:
            await first.getmany(timeout_ms=100)
            await second.getmany(timeout_ms=100)
    for partition in range(2):
        await send(bootstrap, topic, [f"{partition}".encode()], partition)
    equal(values(await read(first, 1) + await read(second, 1)), [b"0", b"1"])
    await first.commit()
    await second.commit()
    await second.stop()
    async with asyncio.timeout(LIMIT):
        while len(first.assignment()) != 2:
            await first.getmany(timeout_ms=100)
    await first.stop()
    again = await started(bootstrap, [topic], group)
    await send(bootstrap, topic, [b"resumed"], 0)
    equal(values(await read(again, 1)), [b"resumed"])
    await again.stop()


async def idempotence(bootstrap):
    topic = await create(bootstrap, 1)
    sent = [f"{number:02}".encode() for number in range(30)]
    await send(bootstrap, topic, sent, enable_idempotence=True)
    consumer = await started(bootstrap, [topic])
    equal([record.value for record in await read(consumer, 30)], sent)
    await consumer.stop()


async def transactions(bootstrap):
    topic = await create(bootstrap, 1)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=name("id"))
    await producer.start()
    for outcome in [b"committed", b"aborted", b"committed too"]:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, outcome)
        if outcome == b"aborted":
            await producer.abort_transaction()
        else:
            await producer.commit_transaction()
    consumer = await started(bootstrap, [topic], isolation_level="read_committed")
    equal(values(await read(consumer, 2)), [b"committed", b"committed too"])
    equal(await consumer.getmany(timeout_ms=500), {})
    await consumer.stop()
    await producer.stop()


async def exactly_once(bootstrap):
    source, sink, group = await create(bootstrap, 1), await create(bootstrap, 1), name("group")
    await send(bootstrap, source, [f"{number}".encode() for number in range(10)])
    identity = name("id")
    for outcome in ["abort", "commit"]:
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=identity)
        await producer.start()
        consumer = await started(bootstrap, [source], group, isolation_level="read_committed")
        records = await read(consumer, 10)
        equal(len(records), 10)
        await producer.begin_transaction()
        for record in records:
            await producer.send_and_wait(sink, record.value)
        at = TopicPartition(source, 0)
        await producer.send_offsets_to_transaction({at: records[-1].offset + 1}, group)
        if outcome == "abort":
            await producer.abort_transaction()
            equal(await consumer.committed(at), None)
        else:
            await producer.commit_transaction()
            async with asyncio.timeout(LIMIT):
                while await consumer.committed(at) != 10:
                    await asyncio.sleep(0.05)
        await consumer.stop()
        await producer.stop()
    consumer = await started(bootstrap, [sink], isolation_level="read_committed")
    equal(len(await read(consumer, 10)), 10)
    equal(await consumer.getmany(timeout_ms=500), {})
    await consumer.stop()


async def administration(bootstrap):
    topic = await create(bootstrap)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    assert topic in await admin.list_topics()
    await admin.create_partitions({topic: NewPartitions(3)})
    described = await admin.describe_topics([topic])
    equal(len(described[0]["partitions"]), 3)
    await admin.delete_topics([topic])
    async with asyncio.timeout(LIMIT):
        while topic in await admin.list_topics():
            await asyncio.sleep(0.05)
    await admin.close()


def blocking(check):
    return lambda bootstrap: asyncio.run(check(bootstrap))


main(
    {
        "produce and consume": blocking(produce_and_consume),
        "classic groups": blocking(groups),
        "idempotence": blocking(idempotence),
        "transactions": blocking(transactions),
        "exactly once": blocking(exactly_once),
        "administration": blocking(administration),
    }
)
