//! Batches are stored and given as they were sent, whatever packs them.

use bytes::{BufMut as _, Bytes, BytesMut};
use rafka_core::batch::BatchBuilder;
use rafka_core::compression::Compression;
use rafka_core::{Batch, Timestamp};
use rafka_kafka_wire::produce::PartitionProduceData;
use rafka_kafka_wire::{Records, fetch, produce};

use crate::records::fetching;
use crate::support::{Client, Node, body, produce as producing};

/// A batch that the node itself would pack in other bytes, where the codec leaves a choice.
fn packed(codec: Compression, seed: u8) -> Batch {
    let mut builder = BatchBuilder::new(codec);
    for number in 0..50_u8 {
        let (key, value) = ([seed, number], [number; 200]);
        let headers = [(Bytes::from_static(b"h"), None)];
        builder.push(Timestamp(1_700_000_000_000), Some(&key), Some(&value), &headers);
    }
    let mut batch = builder.build().expect("memory does not fail");
    let mut records = BytesMut::from(&batch.records[..]);
    match codec {
        // The time at which it was packed, of which the format keeps note.
        Compression::Gzip => records[4..8].copy_from_slice(&[1, 2, 3, 4]),
        // A frame that readers skip.
        Compression::Zstd => {
            records.put_u32_le(0x184d_2a50);
            records.put_u32_le(3);
            records.put_slice(b"own");
        }
        Compression::None | Compression::Snappy | Compression::Lz4 => {}
    }
    batch.records = records.freeze();
    // Which renews the checksum.
    batch.set_max_timestamp(batch.max_timestamp());
    batch
}

async fn append(client: &mut Client, request: &produce::Request<'_>) {
    let frame = client.ask(9, request).await.expect("answered");
    let response: produce::Response<'_> = body(9, &frame);
    for partition in &response.responses[0].partition_responses {
        assert_eq!(partition.error_code, 0, "{:?}", partition.error_message);
    }
}

/// The bytes of a partition of `orders` from an offset on.
async fn read(client: &mut Client, partition: i32, offset: i64) -> Bytes {
    let mut request = fetching(offset, 0);
    request.topics[0].partitions[0].partition = partition;
    let frame = client.ask(12, &request).await.expect("answered");
    let response: fetch::Response<'_> = body(12, &frame);
    response.responses[0].partitions[0].records.clone().unwrap_or_default().into_bytes()
}

/// Base offset, length, leader epoch: eight bytes and four and four; then all the rest.
fn assert_same(found: &Bytes, sent: &Bytes, offset: i64, codec: Compression) {
    assert_eq!(found[..8], offset.to_be_bytes(), "{codec:?}: it is where the log ended");
    assert_eq!(found[8..12], sent[8..12], "{codec:?}: the length");
    assert_eq!(found[12..16], [0; 4], "{codec:?}: the leader's first epoch");
    assert!(found[16..] == sent[16..], "{codec:?}: something is not as it was sent");
}

#[tokio::test]
async fn batches_of_every_codec_are_given_byte_for_byte_as_they_were_sent() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let mut offset = 0;
    for (id, codec) in [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ]
    .into_iter()
    .enumerate()
    {
        let sent = [packed(codec, 0).to_bytes(), packed(codec, 1).to_bytes()];
        assert_eq!(usize::from(sent[0][22]), id, "the codec is in the attributes");
        // In a frame that both share, and each in one of its own.
        let mut shared = producing(-1, 0, sent[0].clone());
        shared.topic_data[0]
            .partition_data
            .push(PartitionProduceData { index: 1, records: Some(Records::from(sent[1].clone())) });
        append(&mut client, &shared).await;
        for (partition, sent) in (0..).zip(&sent) {
            let found = read(&mut client, partition, offset).await;
            assert_same(&found, sent, offset, codec);
            append(&mut client, &producing(-1, partition, sent.clone())).await;
            let found = read(&mut client, partition, offset + 50).await;
            assert_same(&found, sent, offset + 50, codec);
        }
        offset += 100;
    }
}
