//! Every version of every message, read and written by us and by another implementation.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as other;
use kafka_protocol::protocol::{Decodable, Encodable, Message as Versioned};
use rafka_core::rng::{self, RngExt as _};

use super::facts::{self, Api};
use super::{encode, random, say};
use crate::messages::each_api;
use crate::{ApiKey, Message as _, Reader};

/// How many random messages each version has to carry.
const ROUNDS: u64 = 40;

/// How often each of them is damaged.
const DAMAGES: usize = 10;

/// Reads bytes and writes what was read.
type Again = fn(i16, &Bytes) -> Result<Bytes, String>;

struct Codec {
    key: ApiKey,
    name: &'static str,
    ours: Again,
    theirs: Again,
    their_versions: RangeInclusive<i16>,
}

fn codecs() -> Vec<Codec> {
    let mut codecs = Vec::new();
    macro_rules! ours {
        ($module:ident, $message:ident) => {
            |version, bytes| {
                let read = crate::$module::$message::decode(version, &mut Reader::new(bytes))
                    .map_err(say)?;
                let written = encode(&read, version).expect("it was read in this version");
                let again = crate::$module::$message::decode(version, &mut Reader::new(&written));
                assert_eq!(again.as_ref(), Ok(&read));
                Ok(written.clone())
            }
        };
    }
    macro_rules! add {
        ($key:ident, $module:ident, $request:ident, $response:ident) => {
            codecs.push(Codec {
                key: ApiKey::$key,
                name: "Request",
                ours: ours!($module, Request),
                theirs: theirs::<other::$request>,
                their_versions: versions::<other::$request>(),
            });
            codecs.push(Codec {
                key: ApiKey::$key,
                name: "Response",
                ours: ours!($module, Response),
                theirs: theirs::<other::$response>,
                their_versions: versions::<other::$response>(),
            });
        };
    }
    each_api!(add);
    codecs
}

fn versions<M: Versioned>() -> RangeInclusive<i16> {
    M::VERSIONS.min..=M::VERSIONS.max
}

fn theirs<M: Decodable + Encodable>(version: i16, bytes: &Bytes) -> Result<Bytes, String> {
    let mut input = bytes.clone();
    let read = M::decode(&mut input, version).map_err(say)?;
    if !input.is_empty() {
        return Err(format!("{} bytes are left", input.len()));
    }
    let mut out = BytesMut::new();
    read.encode(&mut out, version).map_err(say)?;
    Ok(out.freeze())
}

fn apis() -> anyhow::Result<Vec<Api>> {
    facts::parse(include_str!("../../facts.txt"))
}

/// Calls `check` with random messages of each version, their codec and a text that names them.
fn walk(check: impl Fn(&Codec, i16, &Bytes, &str)) -> usize {
    let apis = apis().expect("the table is well-formed");
    let mut count = 0;
    for codec in codecs() {
        let api = apis.iter().find(|api| api.key == codec.key.code()).expect("made from it");
        for version in api.versions.versions() {
            for seed in 0..ROUNDS {
                let mut rng = rng::from_seed(seed);
                let palette = random::Palette::default();
                let message = random::message((api, codec.name), version, &palette, &mut rng);
                let bytes = Bytes::from(message);
                let case = format!("{} {} version {version} seed {seed}", api.name, codec.name);
                check(&codec, version, &bytes, &case);
            }
            count += 1;
        }
    }
    count
}

#[test]
fn every_version_of_every_message_is_read_and_written_without_loss() {
    let count = walk(|codec, version, bytes, case| {
        assert_eq!((codec.ours)(version, bytes).as_ref(), Ok(bytes), "{case}");
    });
    let versions = |key: &ApiKey| key.versions().count();
    assert_eq!(count, 2 * ApiKey::ALL.iter().map(versions).sum::<usize>());
}

#[test]
fn another_implementation_reads_and_writes_the_same_bytes() {
    let missing = RefCell::new(BTreeSet::new());
    walk(|codec, version, bytes, case| {
        if codec.their_versions.contains(&version) {
            assert_eq!((codec.theirs)(version, bytes).as_ref(), Ok(bytes), "{case}");
        } else {
            missing.borrow_mut().insert((codec.key, codec.name, version));
        }
    });
    // What it does not know yet stands on our table alone.
    let expected = [
        (ApiKey::ListOffsets, "Request", 11),
        (ApiKey::ListOffsets, "Response", 11),
        (ApiKey::OffsetCommit, "Request", 10),
        (ApiKey::OffsetFetch, "Request", 10),
    ];
    assert_eq!(missing.take(), BTreeSet::from(expected));
}

#[test]
fn a_damaged_message_is_refused_or_is_another_message() {
    let refused = Cell::new(0);
    let count = walk(|codec, version, bytes, case| {
        let mut rng = rng::from_seed(u64::try_from(bytes.len()).expect("a length"));
        // The oldest questions have nothing to say, which cannot be damaged.
        let damages = if bytes.is_empty() { 0 } else { DAMAGES };
        for _ in 0..damages {
            let mut damaged = bytes.to_vec();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..damaged.len());
                damaged[at] = [0, 1, 0x7f, 0x80, 0xff, rng.random()][rng.random_range(0..6)];
            }
            if rng.random_ratio(1, 4) {
                damaged.truncate(rng.random_range(0..damaged.len()));
            }
            let Ok(written) = (codec.ours)(version, &damaged.into()) else {
                refused.set(refused.get() + 1);
                continue;
            };
            // Its canonical form is stable; the damage may have made it another one.
            assert_eq!((codec.ours)(version, &written).as_ref(), Ok(&written), "{case}");
        }
    });
    assert!(count < refused.get(), "no damage was seen: {}", refused.get());
}
