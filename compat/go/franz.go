package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

var franz = []check{
	{"produce and consume", franzProduce},
	{"classic groups", franzGroups},
	{"transactions", franzTransactions},
	{"exactly once", franzExactlyOnce},
	{"administration", franzAdmin},
}

func franzClient(node string, options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append(options, kgo.SeedBrokers(node))...)
}

func franzCreate(ctx context.Context, node string, partitions int32) (string, error) {
	client, err := franzClient(node)
	if err != nil {
		return "", err
	}
	defer client.Close()
	topic := unique("franz")
	_, err = kadm.NewClient(client).CreateTopic(ctx, partitions, 1, nil, topic)
	return topic, err
}

func franzSend(ctx context.Context, node, topic string, partition int32, values []string, options ...kgo.Opt) error {
	client, err := franzClient(node, append(options, kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		return err
	}
	defer client.Close()
	var records []*kgo.Record
	for _, value := range values {
		records = append(records, &kgo.Record{Topic: topic, Partition: partition, Value: []byte(value)})
	}
	return client.ProduceSync(ctx, records...).FirstErr()
}

// franzRead returns the first values of what is read, or why there are fewer.
func franzRead(ctx context.Context, client *kgo.Client, count int) ([]string, error) {
	var values []string
	for len(values) < count {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return values, err
		}
		fetches.EachRecord(func(record *kgo.Record) { values = append(values, string(record.Value)) })
	}
	return values, nil
}

func franzProduce(node string) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	topic, err := franzCreate(ctx, node, 1)
	if err != nil {
		return err
	}
	codecs := []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
	}
	for index, codec := range codecs {
		value := []string{fmt.Sprint(index)}
		if err := franzSend(ctx, node, topic, 0, value, kgo.ProducerBatchCompression(codec)); err != nil {
			return err
		}
	}
	client, err := franzClient(node, kgo.ConsumeTopics(topic))
	if err != nil {
		return err
	}
	defer client.Close()
	values, err := franzRead(ctx, client, len(codecs))
	if err != nil {
		return err
	}
	return equal(fmt.Sprint(values), "[0 1 2 3 4]")
}

func franzGroups(node string) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	topic, err := franzCreate(ctx, node, 2)
	if err != nil {
		return err
	}
	group := unique("group")
	member := func() (*kgo.Client, error) {
		return franzClient(node, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit())
	}
	first, err := member()
	if err != nil {
		return err
	}
	defer first.Close()
	if err := franzSend(ctx, node, topic, 0, []string{"a", "b"}); err != nil {
		return err
	}
	values, err := franzRead(ctx, first, 2)
	if err != nil {
		return err
	}
	if err := first.CommitUncommittedOffsets(ctx); err != nil {
		return err
	}
	first.Close()
	second, err := member()
	if err != nil {
		return err
	}
	defer second.Close()
	if err := franzSend(ctx, node, topic, 1, []string{"c"}); err != nil {
		return err
	}
	more, err := franzRead(ctx, second, 1)
	if err != nil {
		return err
	}
	return equal(fmt.Sprint(values, more), "[a b] [c]")
}

func franzTransactions(node string) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	topic, err := franzCreate(ctx, node, 1)
	if err != nil {
		return err
	}
	producer, err := franzClient(node, kgo.TransactionalID(unique("id")), kgo.DefaultProduceTopic(topic))
	if err != nil {
		return err
	}
	defer producer.Close()
	for _, outcome := range []string{"committed", "aborted", "committed too"} {
		if err := producer.BeginTransaction(); err != nil {
			return err
		}
		if err := producer.ProduceSync(ctx, kgo.StringRecord(outcome)).FirstErr(); err != nil {
			return err
		}
		if err := producer.EndTransaction(ctx, kgo.TransactionEndTry(outcome != "aborted")); err != nil {
			return err
		}
	}
	client, err := franzClient(node, kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		return err
	}
	defer client.Close()
	values, err := franzRead(ctx, client, 2)
	if err != nil {
		return err
	}
	return equal(fmt.Sprint(values), "[committed committed too]")
}

func franzExactlyOnce(node string) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	source, err := franzCreate(ctx, node, 1)
	if err != nil {
		return err
	}
	sink, err := franzCreate(ctx, node, 1)
	if err != nil {
		return err
	}
	if err := franzSend(ctx, node, source, 0, []string{"a", "b", "c"}); err != nil {
		return err
	}
	id, group := unique("id"), unique("group")
	for _, end := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
		session, err := kgo.NewGroupTransactSession(
			kgo.SeedBrokers(node), kgo.TransactionalID(id), kgo.ConsumerGroup(group), kgo.ConsumeTopics(source),
			kgo.DefaultProduceTopic(sink), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RequireStableFetchOffsets(),
		)
		if err != nil {
			return err
		}
		if err := session.Begin(); err != nil {
			return err
		}
		for count := 0; count < 3; {
			fetches := session.PollFetches(ctx)
			if err := fetches.Err0(); err != nil {
				return err
			}
			fetches.EachRecord(func(record *kgo.Record) {
				count++
				session.Produce(ctx, &kgo.Record{Value: record.Value}, nil)
			})
		}
		committed, err := session.End(ctx, end)
		session.Close()
		if err != nil {
			return err
		}
		if err := equal(committed, bool(end)); err != nil {
			return err
		}
	}
	client, err := franzClient(node, kgo.ConsumeTopics(sink), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		return err
	}
	defer client.Close()
	values, err := franzRead(ctx, client, 3)
	if err != nil {
		return err
	}
	return equal(fmt.Sprint(values), "[a b c]")
}

func franzAdmin(node string) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	topic, err := franzCreate(ctx, node, 1)
	if err != nil {
		return err
	}
	client, err := franzClient(node)
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	if _, err := admin.UpdatePartitions(ctx, 2, topic); err != nil {
		return err
	}
	topics, err := admin.ListTopics(ctx, topic)
	if err != nil {
		return err
	}
	if err := equal(len(topics[topic].Partitions), 2); err != nil {
		return err
	}
	if _, err := admin.DeleteTopic(ctx, topic); err != nil {
		return err
	}
	for {
		topics, err := admin.ListTopics(ctx)
		if err != nil {
			return err
		}
		if !topics.Has(topic) {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
}
