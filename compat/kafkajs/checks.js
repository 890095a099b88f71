// kafkajs against the node at argv[2]: says of each check whether it holds.
"use strict";

const { randomUUID } = require("node:crypto");
const { isDeepStrictEqual } = require("node:util");
const { CompressionTypes, Kafka, logLevel } = require("kafkajs");

const LIMIT = 30_000;
const kafka = new Kafka({ brokers: [process.argv[2]], logLevel: logLevel.NOTHING });

const name = (kind) => `${kind}-${randomUUID().slice(0, 8)}`;
const sleep = (millis) => new Promise((resolve) => setTimeout(resolve, millis));

function equal(found, expected) {
  if (!isDeepStrictEqual(found, expected)) {
    throw new Error(`found ${JSON.stringify(found)}, expected ${JSON.stringify(expected)}`);
  }
}

async function until(condition, what) {
  for (const end = Date.now() + LIMIT; Date.now() < end; await sleep(50)) {
    if (await condition()) return;
  }
  throw new Error(`${what}: not within ${LIMIT} ms`);
}

async function withAdmin(act) {
  const admin = kafka.admin();
  await admin.connect();
  try {
    return await act(admin);
  } finally {
    await admin.disconnect();
  }
}

async function create(numPartitions) {
  const topic = name("kafkajs");
  await withAdmin((admin) => admin.createTopics({ topics: [{ topic, numPartitions }] }));
  return topic;
}

async function send(topic, values, { partition, ...settings } = {}, compression = CompressionTypes.None) {
  const producer = kafka.producer(settings);
  await producer.connect();
  const messages = values.map((value) => ({ value, partition }));
  await producer.send({ topic, messages, compression });
  await producer.disconnect();
}

// A consumer that collects what it reads.
async function reader(topic, groupId, settings = {}) {
  const consumer = kafka.consumer({ groupId, ...settings });
  const records = [];
  let partitions = [];
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    partitions = payload.memberAssignment[topic] ?? [];
  });
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await consumer.run({
    eachMessage: async ({ message }) => void records.push(message.value.toString()),
  });
  return { consumer, records, partitions: () => partitions };
}

const checks = {
  async "produce and consume"() {
    const topic = await create(2);
    const plain = Array.from({ length: 50 }, (_, number) => `plain-${number}`);
    const packed = Array.from({ length: 50 }, (_, number) => `packed-${number}`);
    await send(topic, plain);
    await send(topic, packed, {}, CompressionTypes.GZIP);
    const { consumer, records } = await reader(topic, name("group"));
    await until(() => records.length >= 100, "100 records");
    equal(records.sort(), [...plain, ...packed].sort());
    await consumer.disconnect();
  },

  async "classic groups"() {
    const topic = await create(2);
    const group = name("group");
    const first = await reader(topic, group);
    const second = await reader(topic, group);
    await until(
      () => first.partitions().length === 1 && second.partitions().length === 1,
      "a partition for each member",
    );
    await send(topic, ["0"], { partition: 0 });
    await send(topic, ["1"], { partition: 1 });
    await until(() => first.records.length + second.records.length >= 2, "two records");
    await second.consumer.disconnect();
    await until(() => first.partitions().length === 2, "all for the one that stays");
    await first.consumer.disconnect();
    const again = await reader(topic, group);
    await send(topic, ["resumed"], { partition: 0 });
    await until(() => again.records.length >= 1, "a record");
    equal(again.records, ["resumed"]);
    await again.consumer.disconnect();
  },

  async idempotence() {
    const topic = await create(1);
    const values = Array.from({ length: 30 }, (_, number) => `${number}`.padStart(2, "0"));
    await send(topic, values, { idempotent: true });
    const { consumer, records } = await reader(topic, name("group"));
    await until(() => records.length >= 30, "30 records");
    equal(records, values);
    await consumer.disconnect();
  },

  async transactions() {
    const topic = await create(1);
    const producer = kafka.producer({ transactionalId: name("id"), maxInFlightRequests: 1, idempotent: true });
    await producer.connect();
    for (const outcome of ["committed", "aborted", "committed too"]) {
      const transaction = await producer.transaction();
      await transaction.send({ topic, messages: [{ value: outcome }] });
      await (outcome === "aborted" ? transaction.abort() : transaction.commit());
    }
    const { consumer, records } = await reader(topic, name("group"));
    await until(() => records.length >= 2, "two records");
    await sleep(500);
    equal(records, ["committed", "committed too"]);
    await consumer.disconnect();
    await producer.disconnect();
  },

  async "exactly once"() {
    const topic = await create(1);
    const group = name("group");
    const producer = kafka.producer({ transactionalId: name("id"), maxInFlightRequests: 1, idempotent: true });
    await producer.connect();
    const committed = () =>
      withAdmin(async (admin) => {
        const [found] = await admin.fetchOffsets({ groupId: group, topics: [topic] });
        return found.partitions.find(({ partition }) => partition === 0)?.offset ?? "-1";
      });
    for (const [offset, outcome] of [["3", "abort"], ["5", "commit"]]) {
      const transaction = await producer.transaction();
      await transaction.send({ topic, messages: [{ value: outcome }] });
      await transaction.sendOffsets({
        consumerGroupId: group,
        topics: [{ topic, partitions: [{ partition: 0, offset }] }],
      });
      await transaction[outcome]();
      if (outcome === "abort") equal(await committed(), "-1");
    }
    await until(async () => (await committed()) === "5", "the offset");
    await producer.disconnect();
  },

  async administration() {
    const topic = await create(1);
    await withAdmin(async (admin) => {
      if (!(await admin.listTopics()).includes(topic)) throw new Error("the topic is not listed");
      await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] });
      const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
      equal(topics[0].partitions.length, 3);
      const configEntries = [{ name: "retention.ms", value: "60000" }];
      await admin.alterConfigs({ validateOnly: false, resources: [{ type: 2, name: topic, configEntries }] });
      const { resources } = await admin.describeConfigs({ resources: [{ type: 2, name: topic }] });
      const found = resources[0].configEntries.find(({ configName }) => configName === "retention.ms");
      equal(found.configValue, "60000");
      await admin.deleteTopics({ topics: [topic] });
      await until(async () => !(await admin.listTopics()).includes(topic), "the topic to go");
    });
  },
};

(async () => {
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
      console.log(`ok ${name}`);
    } catch (error) {
      failed = 1;
      console.log(`failed ${name}: ${error.message}`);
    }
  }
  process.exit(failed);
})();
