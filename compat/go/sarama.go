package main

import (
	"context"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

var sarama_ = []check{
	{"produce and consume", saramaProduce},
	{"classic groups", saramaGroups},
	{"transactions", saramaTransactions},
	{"exactly once", saramaExactlyOnce},
	{"administration", saramaAdmin},
}

func saramaConfig() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Producer.Return.Successes = true
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.IsolationLevel = sarama.ReadCommitted
	return config
}

func saramaCreate(node string, partitions int32) (string, error) {
	admin, err := sarama.NewClusterAdmin([]string{node}, saramaConfig())
	if err != nil {
		return "", err
	}
	defer admin.Close()
	topic := unique("sarama")
	return topic, admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}, false)
}

func saramaSend(node, topic string, values []string, config *sarama.Config) error {
	producer, err := sarama.NewSyncProducer([]string{node}, config)
	if err != nil {
		return err
	}
	defer producer.Close()
	for _, value := range values {
		message := &sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(value)}
		if _, _, err := producer.SendMessage(message); err != nil {
			return err
		}
	}
	return nil
}

func saramaRead(node, topic string, count int) ([]string, error) {
	consumer, err := sarama.NewConsumer([]string{node}, saramaConfig())
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	partition, err := consumer.ConsumePartition(topic, 0, sarama.OffsetOldest)
	if err != nil {
		return nil, err
	}
	defer partition.Close()
	var values []string
	for len(values) < count {
		select {
		case message := <-partition.Messages():
			values = append(values, string(message.Value))
		case <-time.After(limit):
			return values, fmt.Errorf("only %v within %v", values, limit)
		}
	}
	return values, nil
}

func saramaProduce(node string) error {
	topic, err := saramaCreate(node, 1)
	if err != nil {
		return err
	}
	codecs := []sarama.CompressionCodec{
		sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4, sarama.CompressionZSTD,
	}
	for index, codec := range codecs {
		config := saramaConfig()
		config.Producer.Compression = codec
		config.Producer.Idempotent = index == 0
		if config.Producer.Idempotent {
			config.Producer.RequiredAcks = sarama.WaitForAll
			config.Net.MaxOpenRequests = 1
		}
		if err := saramaSend(node, topic, []string{fmt.Sprint(index)}, config); err != nil {
			return err
		}
	}
	values, err := saramaRead(node, topic, len(codecs))
	if err != nil {
		return err
	}
	return equal(fmt.Sprint(values), "[0 1 2 3 4]")
}

// saramaMember reads some messages as a member of a group, commits them and leaves.
type saramaMember struct {
	count  int
	values []string
	done   context.CancelFunc
}

func (*saramaMember) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (*saramaMember) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (member *saramaMember) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message := <-claim.Messages():
			member.values = append(member.values, string(message.Value))
			session.MarkMessage(message, "")
			session.Commit()
			if len(member.values) == member.count {
				member.done()
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

func saramaGroups(node string) error {
	topic, err := saramaCreate(node, 1)
	if err != nil {
		return err
	}
	name := unique("group")
	for _, round := range []string{"[a b]", "[c d]"} {
		values := []string{round[1:2], round[3:4]}
		if err := saramaSend(node, topic, values, saramaConfig()); err != nil {
			return err
		}
		group, err := sarama.NewConsumerGroup([]string{node}, name, saramaConfig())
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		member := &saramaMember{count: 2, done: cancel}
		err = group.Consume(ctx, []string{topic}, member)
		cancel()
		group.Close()
		if err != nil {
			return err
		}
		if err := equal(fmt.Sprint(member.values), round); err != nil {
			return err
		}
	}
	return nil
}

func saramaTransactional(node, id string) (sarama.SyncProducer, error) {
	config := saramaConfig()
	config.Producer.Idempotent = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Transaction.ID = id
	config.Net.MaxOpenRequests = 1
	return sarama.NewSyncProducer([]string{node}, config)
}

func saramaTransactions(node string) error {
	topic, err := saramaCreate(node, 1)
	if err != nil {
		return err
	}
	producer, err := saramaTransactional(node, unique("id"))
	if err != nil {
		return err
	}
	defer producer.Close()
	for _, outcome := range []string{"committed", "aborted", "committed too"} {
		if err := producer.BeginTxn(); err != nil {
			return err
		}
		message := &sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(outcome)}
		if _, _, err := producer.SendMessage(message); err != nil {
			return err
		}
		end := producer.CommitTxn
		if outcome == "aborted" {
			end = producer.AbortTxn
		}
		if err := end(); err != nil {
			return err
		}
	}
	values, err := saramaRead(node, topic, 2)
	if err != nil {
		return err
	}
	return equal(fmt.Sprint(values), "[committed committed too]")
}

func saramaExactlyOnce(node string) error {
	topic, err := saramaCreate(node, 1)
	if err != nil {
		return err
	}
	producer, err := saramaTransactional(node, unique("id"))
	if err != nil {
		return err
	}
	defer producer.Close()
	admin, err := sarama.NewClusterAdmin([]string{node}, saramaConfig())
	if err != nil {
		return err
	}
	defer admin.Close()
	group := unique("group")
	for offset, commits := range map[int64]bool{3: false, 5: true} {
		if err := producer.BeginTxn(); err != nil {
			return err
		}
		// Without a record sarama ends the transaction without a word to the node.
		message := &sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder("seen")}
		if _, _, err := producer.SendMessage(message); err != nil {
			return err
		}
		offsets := map[string][]*sarama.PartitionOffsetMetadata{topic: {{Partition: 0, Offset: offset}}}
		if err := producer.AddOffsetsToTxn(offsets, group); err != nil {
			return err
		}
		end := producer.AbortTxn
		if commits {
			end = producer.CommitTxn
		}
		if err := end(); err != nil {
			return err
		}
	}
	for end := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		found, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0}})
		if err != nil {
			return err
		}
		offset := found.GetBlock(topic, 0).Offset
		if offset == 5 || time.Now().After(end) {
			return equal(offset, 5)
		}
	}
}

func saramaAdmin(node string) error {
	topic, err := saramaCreate(node, 1)
	if err != nil {
		return err
	}
	admin, err := sarama.NewClusterAdmin([]string{node}, saramaConfig())
	if err != nil {
		return err
	}
	defer admin.Close()
	if err := admin.CreatePartitions(topic, 2, nil, false); err != nil {
		return err
	}
	value := "60000"
	if err := admin.AlterConfig(sarama.TopicResource, topic, map[string]*string{"retention.ms": &value}, false); err != nil {
		return err
	}
	entries, err := admin.DescribeConfig(sarama.ConfigResource{
		Type: sarama.TopicResource, Name: topic, ConfigNames: []string{"retention.ms"},
	})
	if err != nil {
		return err
	}
	if err := equal(entries[0].Value, value); err != nil {
		return err
	}
	return admin.DeleteTopic(topic)
}
