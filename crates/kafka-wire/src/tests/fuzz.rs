//! A fuzz target per request: bytes of any kind are refused, or are a message that can be said again.
//!
//! The first byte of an input is the version, the frame follows.

use bytes::Bytes;

use super::encode;
use crate::messages::each_api;
use crate::{Message as _, Reader};

/// In an ordinary test run, besides the corpus. A fuzzer does not stop.
const ITERATIONS: usize = 1000;

/// One above the newest version of any API, so that it is tried as well.
const VERSIONS: u8 = 20;

macro_rules! target {
    ($key:ident, $module:ident, $request:ident, $response:ident) => {
        #[test]
        fn $module() {
            bolero::check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
                let Some((version, frame)) = input.split_first() else { return };
                let (version, frame) =
                    (i16::from(version % VERSIONS), Bytes::copy_from_slice(frame));
                let Ok(read) = crate::$module::Request::decode(version, &mut Reader::new(&frame))
                else {
                    return;
                };
                let written = encode(&read, version).expect("it was read in this version");
                let again = crate::$module::Request::decode(version, &mut Reader::new(&written));
                assert_eq!(again.as_ref(), Ok(&read));
            });
        }
    };
}

each_api!(target);
