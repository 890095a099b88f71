import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.Future;
import java.util.regex.Pattern;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** The Java client against the node of the first argument: says of each check whether it holds. */
final class Checks {
    private static final Duration LIMIT = Duration.ofSeconds(60);
    private static String node;

    interface Check {
        void run() throws Exception;
    }

    public static void main(String[] arguments) {
        node = arguments[0];
        Map<String, Check> checks = new LinkedHashMap<>();
        checks.put("produce and consume", Checks::produceAndConsume);
        checks.put("classic groups", () -> groups(Map.of()));
        checks.put("cooperative groups", () -> groups(Map.of("partition.assignment.strategy",
            "org.apache.kafka.clients.consumer.CooperativeStickyAssignor")));
        checks.put("next-generation groups", Checks::nextGeneration);
        checks.put("migration of groups", Checks::migration);
        checks.put("transactions", Checks::transactions);
        checks.put("exactly once", Checks::exactlyOnce);
        checks.put("administration", Checks::administration);
        boolean failed = false;
        for (Map.Entry<String, Check> check : checks.entrySet()) {
            try {
                check.getValue().run();
                System.out.println("ok " + check.getKey());
            } catch (Throwable error) {
                failed = true;
                System.out.println("failed " + check.getKey() + ": " + error);
                error.printStackTrace();
            }
        }
        System.exit(failed ? 1 : 0);
    }

    private static String name(String kind) {
        return kind + "-" + UUID.randomUUID().toString().substring(0, 8);
    }

    private static void equal(Object found, Object expected) {
        if (!Objects.equals(found, expected)) {
            throw new AssertionError("found " + found + ", expected " + expected);
        }
    }

    private static void until(Callable<Boolean> condition, String what) throws Exception {
        long end = System.nanoTime() + LIMIT.toNanos();
        while (!condition.call()) {
            if (end < System.nanoTime()) {
                throw new AssertionError(what + ": not within " + LIMIT);
            }
        }
    }

    private static Admin admin() {
        return Admin.create(Map.of("bootstrap.servers", node));
    }

    private static String create(int partitions) throws Exception {
        String topic = name("java");
        try (Admin admin = admin()) {
            admin.createTopics(List.of(new NewTopic(topic, Optional.of(partitions), Optional.empty()))).all().get();
        }
        return topic;
    }

    private static KafkaProducer<String, String> producer(Map<String, Object> settings) {
        Map<String, Object> all = new LinkedHashMap<>(settings);
        all.put("bootstrap.servers", node);
        return new KafkaProducer<>(all, new StringSerializer(), new StringSerializer());
    }

    private static void send(String topic, int partition, List<String> values, Map<String, Object> settings)
            throws Exception {
        try (KafkaProducer<String, String> producer = producer(settings)) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (String value : values) {
                sent.add(producer.send(new ProducerRecord<>(topic, partition, "key", value)));
            }
            for (Future<RecordMetadata> one : sent) {
                one.get();
            }
        }
    }

    private static KafkaConsumer<String, String> consumer(String group, Map<String, Object> settings) {
        Map<String, Object> all = new LinkedHashMap<>(settings);
        all.put("bootstrap.servers", node);
        all.put("group.id", group);
        all.put("auto.offset.reset", "earliest");
        all.put("enable.auto.commit", "false");
        return new KafkaConsumer<>(all, new StringDeserializer(), new StringDeserializer());
    }

    private static List<String> read(KafkaConsumer<String, String> consumer, int count) throws Exception {
        List<String> values = new ArrayList<>();
        until(() -> {
            for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                values.add(record.value());
            }
            return count <= values.size();
        }, count + " records");
        return values;
    }

    private static List<String> sorted(Collection<String> values) {
        return values.stream().sorted().toList();
    }

    private static void produceAndConsume() throws Exception {
        String topic = create(2);
        List<String> expected = new ArrayList<>();
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            List<String> values = IntStream.range(0, 50).mapToObj(number -> codec + "-" + number).toList();
            send(topic, 0, values, Map.of("compression.type", codec));
            expected.addAll(values);
        }
        try (KafkaConsumer<String, String> consumer = consumer(name("group"), Map.of())) {
            consumer.subscribe(List.of(topic));
            equal(sorted(read(consumer, 250)), sorted(expected));
            TopicPartition first = new TopicPartition(topic, 0);
            equal(consumer.endOffsets(List.of(first)).get(first), 250L);
        }
    }

    private static void groups(Map<String, Object> settings) throws Exception {
        String topic = create(2);
        String group = name("group");
        try (KafkaConsumer<String, String> first = consumer(group, settings)) {
            first.subscribe(List.of(topic));
            try (KafkaConsumer<String, String> second = consumer(group, settings)) {
                second.subscribe(List.of(topic));
                until(() -> {
                    first.poll(Duration.ofMillis(50));
                    second.poll(Duration.ofMillis(50));
                    return first.assignment().size() == 1 && second.assignment().size() == 1;
                }, "a partition for each member");
                send(topic, 0, List.of("0"), Map.of());
                send(topic, 1, List.of("1"), Map.of());
                List<String> found = new ArrayList<>(read(first, 1));
                found.addAll(read(second, 1));
                equal(sorted(found), List.of("0", "1"));
                first.commitSync();
                second.commitSync();
            }
            until(() -> {
                first.poll(Duration.ofMillis(50));
                return first.assignment().size() == 2;
            }, "all for the one that stays");
            send(topic, 1, List.of("after"), Map.of());
            equal(read(first, 1), List.of("after"));
            first.commitSync();
        }
        try (KafkaConsumer<String, String> again = consumer(group, settings)) {
            again.subscribe(List.of(topic));
            send(topic, 0, List.of("resumed"), Map.of());
            equal(read(again, 1), List.of("resumed"));
        }
    }

    private static void nextGeneration() throws Exception {
        Map<String, Object> protocol = Map.of("group.protocol", "consumer");
        groups(protocol);
        groups(Map.of("group.protocol", "consumer", "group.remote.assignor", "range"));
        String topic = create(1);
        send(topic, 0, List.of("by pattern"), Map.of());
        String group = name("group");
        try (KafkaConsumer<String, String> consumer = consumer(group, protocol); Admin admin = admin()) {
            consumer.subscribe(new SubscriptionPattern(Pattern.quote(topic).replace("\\Q", "").replace("\\E", "") + ".*"));
            equal(read(consumer, 1), List.of("by pattern"));
            var described = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
            equal(described.type().toString(), "Consumer");
            equal(described.members().size(), 1);
        }
    }

    /** Members of the classic protocol and of the next share a group while it changes over. */
    private static void migration() throws Exception {
        String topic = create(2);
        String group = name("group");
        try (KafkaConsumer<String, String> classic = consumer(group, Map.of())) {
            classic.subscribe(List.of(topic));
            until(() -> {
                classic.poll(Duration.ofMillis(50));
                return classic.assignment().size() == 2;
            }, "all for the first member");
            try (KafkaConsumer<String, String> next = consumer(group, Map.of("group.protocol", "consumer"))) {
                next.subscribe(List.of(topic));
                until(() -> {
                    classic.poll(Duration.ofMillis(50));
                    next.poll(Duration.ofMillis(50));
                    return classic.assignment().size() == 1 && next.assignment().size() == 1;
                }, "a partition for each kind of member");
                send(topic, 0, List.of("0"), Map.of());
                send(topic, 1, List.of("1"), Map.of());
                List<String> found = new ArrayList<>(read(classic, 1));
                found.addAll(read(next, 1));
                equal(sorted(found), List.of("0", "1"));
                classic.commitSync();
                next.commitSync();
            }
            until(() -> {
                classic.poll(Duration.ofMillis(50));
                return classic.assignment().size() == 2;
            }, "all for the classic member again");
        }
    }

    private static void transactions() throws Exception {
        String topic = create(2);
        String id = name("id");
        KafkaProducer<String, String> producer = producer(Map.of("transactional.id", id));
        producer.initTransactions();
        for (String outcome : List.of("committed", "aborted", "committed too")) {
            producer.beginTransaction();
            for (int partition = 0; partition < 2; partition++) {
                producer.send(new ProducerRecord<>(topic, partition, "key", outcome));
            }
            if (outcome.equals("aborted")) {
                producer.flush();
                producer.abortTransaction();
            } else {
                producer.commitTransaction();
            }
        }
        try (KafkaConsumer<String, String> consumer = consumer(name("group"),
                Map.of("isolation.level", "read_committed"))) {
            consumer.subscribe(List.of(topic));
            equal(sorted(read(consumer, 4)), List.of("committed", "committed", "committed too", "committed too"));
            equal(consumer.poll(Duration.ofMillis(500)).count(), 0);
        }
        producer.beginTransaction();
        producer.send(new ProducerRecord<>(topic, 0, "key", "open")).get();
        try (Admin admin = admin(); KafkaProducer<String, String> successor = producer(Map.of("transactional.id", id))) {
            equal(admin.listTransactions().all().get().stream()
                .filter(listing -> listing.transactionalId().equals(id)).count(), 1L);
            var described = admin.describeTransactions(List.of(id)).description(id).get();
            equal(described.state().toString(), "Ongoing");
            equal(described.topicPartitions(), Set.of(new TopicPartition(topic, 0)));
            successor.initTransactions();
            try {
                producer.commitTransaction();
                throw new AssertionError("a producer that was replaced has committed");
            } catch (ProducerFencedException | InvalidProducerEpochException fenced) {
                producer.close();
            }
            successor.beginTransaction();
            successor.send(new ProducerRecord<>(topic, 0, "key", "after"));
            successor.commitTransaction();
        }
    }

    /** Consume, transform, produce: offsets and records are committed together, or not at all. */
    private static void exactlyOnce() throws Exception {
        String source = create(1);
        String sink = create(1);
        String group = name("group");
        String id = name("id");
        send(source, 0, IntStream.range(0, 10).mapToObj(Integer::toString).toList(), Map.of());
        TopicPartition at = new TopicPartition(source, 0);
        for (boolean commits : new boolean[] {false, true}) {
            try (KafkaProducer<String, String> producer = producer(Map.of("transactional.id", id));
                    KafkaConsumer<String, String> consumer = consumer(group, Map.of("isolation.level", "read_committed"))) {
                producer.initTransactions();
                consumer.subscribe(List.of(source));
                List<String> values = read(consumer, 10);
                equal(values.size(), 10);
                producer.beginTransaction();
                for (String value : values) {
                    producer.send(new ProducerRecord<>(sink, 0, "key", value));
                }
                producer.sendOffsetsToTransaction(Map.of(at, new OffsetAndMetadata(10)), consumer.groupMetadata());
                if (commits) {
                    producer.commitTransaction();
                    equal(consumer.committed(Set.of(at)).get(at).offset(), 10L);
                } else {
                    producer.abortTransaction();
                    equal(consumer.committed(Set.of(at)).get(at), null);
                }
            }
        }
        try (KafkaConsumer<String, String> consumer = consumer(name("group"), Map.of("isolation.level", "read_committed"))) {
            consumer.subscribe(List.of(sink));
            equal(read(consumer, 10), IntStream.range(0, 10).mapToObj(Integer::toString).toList());
            equal(consumer.poll(Duration.ofMillis(500)).count(), 0);
        }
    }

    private static void administration() throws Exception {
        String topic = create(1);
        TopicPartition at = new TopicPartition(topic, 0);
        try (Admin admin = admin()) {
            equal(admin.describeCluster().nodes().get().size(), 1);
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all().get();
            equal(admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size(), 3);
            ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            AlterConfigOp change = new AlterConfigOp(new ConfigEntry("retention.ms", "60000"), AlterConfigOp.OpType.SET);
            admin.incrementalAlterConfigs(Map.of(resource, List.of(change))).all().get();
            equal(admin.describeConfigs(List.of(resource)).all().get().get(resource).get("retention.ms").value(), "60000");
            ConfigResource own = new ConfigResource(ConfigResource.Type.BROKER, "0");
            equal(admin.describeConfigs(List.of(own)).all().get().get(own).get("num.partitions").value(), "1");
            send(topic, 0, List.of("a", "b", "c"), Map.of());
            equal(admin.deleteRecords(Map.of(at, RecordsToDelete.beforeOffset(2))).all() != null, true);
            equal(admin.listOffsets(Map.of(at, OffsetSpec.latest())).all().get().get(at).offset(), 3L);
            equal(admin.listOffsets(Map.of(at, OffsetSpec.maxTimestamp())).all().get().get(at).offset() >= 2L, true);
            equal(admin.describeProducers(List.of(at)).all().get().get(at).activeProducers().size(), 1);
            var logs = admin.describeLogDirs(List.of(0)).allDescriptions().get().get(0);
            equal(logs.values().iterator().next().replicaInfos().containsKey(at), true);
            equal(admin.listPartitionReassignments().reassignments().get().isEmpty(), true);
            equal(admin.electLeaders(ElectionType.PREFERRED, Set.of(at)).partitions().get().get(at).isPresent(), true);
            String group = name("group");
            try (KafkaConsumer<String, String> consumer = consumer(group, Map.of())) {
                consumer.subscribe(List.of(topic));
                read(consumer, 1);
                consumer.commitSync();
                equal(admin.describeConsumerGroups(List.of(group)).all().get().get(group).members().size(), 1);
            }
            equal(admin.listGroups().all().get().stream().filter(one -> one.groupId().equals(group)).count(), 1L);
            admin.alterConsumerGroupOffsets(group, Map.of(at, new OffsetAndMetadata(2))).all().get();
            equal(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(at).offset(), 2L);
            admin.deleteConsumerGroupOffsets(group, Set.of(at)).all().get();
            admin.deleteConsumerGroups(List.of(group)).all().get();
            admin.deleteTopics(List.of(topic)).all().get();
            until(() -> !admin.listTopics().names().get().contains(topic), "the topic to go");
        }
    }
}
