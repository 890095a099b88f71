//! What the door promises: nothing is read without room, and nothing waits for ever.

use std::pin::pin;
use std::task::Waker;

use rafka_core::ByteSize;
use tokio::sync::mpsc;

use super::*;

/// A body whose frames the test sends.
struct Feed(mpsc::Receiver<Bytes>);

impl http_body::Body for Feed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.poll_recv(cx).map(|data| data.map(|data| Ok(Frame::data(data))))
    }
}

const TIMEOUT: Duration = Duration::from_secs(30);

/// No message is larger.
const MAX: u64 = 1000;

/// Room for so many bytes beside the reserve.
fn bounds(pool: u64) -> Bounds {
    Bounds::new(Budget::new(ByteSize(pool + MAX), ByteSize(MAX)), TIMEOUT)
}

/// Draws on the reserve, so that nobody else can.
async fn take_reserve(bounds: &Bounds) -> Room {
    let mut room = bounds.budget.room();
    room.grow(usize::try_from(MAX).expect("small")).await;
    assert_eq!((room.bytes(), bounds.budget.held()), (None, 0));
    room
}

fn intake(bounds: &Bounds, kind: Kind) -> (Intake, mpsc::Sender<Bytes>) {
    let (frames, receiver) = mpsc::channel(8);
    (Intake::new(Body::new(Feed(receiver)), bounds, 100_000, kind), frames)
}

/// A message that takes `len` bytes on the wire.
fn message(len: u32) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend((len - 5).to_be_bytes());
    bytes.resize(usize::try_from(len).expect("small"), 7);
    bytes.into()
}

async fn next(intake: &mut Intake) -> Result<Bytes, Status> {
    let mut intake = Pin::new(intake);
    let frame = std::future::poll_fn(|cx| intake.as_mut().poll_frame(cx)).await;
    frame.expect("the body goes on").map(|frame| frame.into_data().expect("data"))
}

fn is_waiting(intake: &mut Intake) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    pin!(intake).as_mut().poll_frame(&mut cx).is_pending()
}

#[tokio::test]
async fn a_message_waits_unread_until_the_budget_has_room_for_it() {
    let bounds = bounds(100);
    let _reserve = take_reserve(&bounds).await;
    let (mut first, first_frames) = intake(&bounds, Kind::Taken);
    let (mut second, second_frames) = intake(&bounds, Kind::Taken);
    first_frames.send(message(60)).await.expect("open");
    second_frames.send(message(60)).await.expect("open");
    next(&mut first).await.expect("there is room");
    assert!(is_waiting(&mut second), "60 and 60 are more than 100");

    let admitted = first.ledger().take().expect("it was let in");
    assert_eq!(admitted.bytes, 60);
    assert!(is_waiting(&mut second), "taking over gives nothing back");
    drop(admitted);
    next(&mut second).await.expect("there is room now");
}

#[tokio::test]
async fn room_is_taken_for_what_came_and_not_for_what_was_announced() {
    let bounds = bounds(100);
    let (mut intake, frames) = intake(&bounds, Kind::Taken);
    let whole = message(90);
    frames.send(whole.slice(..3)).await.expect("open");
    next(&mut intake).await.expect("nothing is known yet");
    assert_eq!(bounds.budget.held(), 0);
    for (from, to) in [(3, 6), (6, 50), (50, 90)] {
        frames.send(whole.slice(from..to)).await.expect("open");
        next(&mut intake).await.expect("there is room");
        assert_eq!(bounds.budget.held(), to);
    }
    drop(intake.ledger().take().expect("it came whole"));
    assert!(bounds.budget.is_idle());
}

#[tokio::test]
async fn who_announces_and_sends_little_keeps_nobody_waiting() {
    let bounds = bounds(100);
    let mut silent = Vec::new();
    for kind in [Kind::Taken, Kind::Passing] {
        for _ in 0..3 {
            let (mut intake, frames) = intake(&bounds, kind);
            frames.send(message(1000).slice(..10)).await.expect("open");
            next(&mut intake).await.expect("there is room");
            silent.push((intake, frames));
        }
    }
    assert_eq!(bounds.budget.held(), 30);
    for kind in [Kind::Taken, Kind::Passing] {
        let (mut intake, frames) = intake(&bounds, kind);
        frames.send(message(70)).await.expect("open");
        next(&mut intake).await.expect("there is room");
    }
}

#[tokio::test]
async fn messages_that_hold_room_for_each_other_come_whole_one_after_the_other() {
    let bounds = bounds(100);
    let mut streams = [intake(&bounds, Kind::Taken), intake(&bounds, Kind::Taken)];
    for (intake, frames) in &mut streams {
        frames.send(message(90).slice(..45)).await.expect("open");
        next(intake).await.expect("there is room for half of each");
        frames.send(message(90).slice(45..)).await.expect("open");
    }
    for (intake, _) in &mut streams {
        assert_eq!(next(intake).await.expect("there is the reserve").len(), 45);
        drop(intake.ledger().take().expect("it came whole"));
    }
    assert!(bounds.budget.is_idle());
}

#[tokio::test(start_paused = true)]
async fn who_holds_room_that_others_want_must_send_on() {
    let bounds = bounds(100);
    let _reserve = take_reserve(&bounds).await;
    let (mut silent, silent_frames) = intake(&bounds, Kind::Taken);
    silent_frames.send(message(90).slice(..60)).await.expect("open");
    next(&mut silent).await.expect("there is room");
    let (mut waiting, frames) = intake(&bounds, Kind::Taken);
    frames.send(message(60)).await.expect("open");
    let begun = Instant::now();
    let silent = async {
        let status = next(&mut silent).await.expect_err("others wait");
        drop(silent);
        status
    };
    let (status, let_in) = tokio::join!(silent, next(&mut waiting));
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    let_in.expect("there is room now");
    assert!(begun.elapsed() < TIMEOUT, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn one_frame_may_hold_several_messages_and_each_is_taken_by_itself() {
    let bounds = bounds(100);
    let (mut intake, frames) = intake(&bounds, Kind::Taken);
    let frame = [message(10), message(20), message(30)].concat();
    frames.send(frame.into()).await.expect("open");
    next(&mut intake).await.expect("there is room");
    let ledger = intake.ledger();
    let taken: Vec<Admitted> = std::iter::from_fn(|| ledger.take()).collect();
    assert_eq!(taken.iter().map(|admitted| admitted.bytes).collect::<Vec<_>>(), [10, 20, 30]);
    assert!(!ledger.has_begun());
    assert_eq!(bounds.budget.held(), 60);
    drop(taken);
    assert!(bounds.budget.is_idle());
}

#[tokio::test]
async fn a_call_whose_messages_nobody_takes_holds_the_last_one_only() {
    let bounds = bounds(100_000);
    let (mut intake, frames) = intake(&bounds, Kind::Passing);
    for len in [60_000, 70_000, 8000, 60_000] {
        frames.send(message(len)).await.expect("open");
        let len = usize::try_from(len).expect("small");
        let mut came = 0;
        while came < len {
            came += next(&mut intake).await.expect("the one before is given back").len();
        }
        let held = len.saturating_sub(HEAD_BYTES);
        assert_eq!(bounds.budget.held(), held, "a small one needs no room");
    }
    drop(intake);
    assert!(bounds.budget.is_idle());
}

#[tokio::test]
async fn a_frame_with_more_than_the_whole_budget_is_let_in_alone() {
    let bounds = bounds(100);
    let (mut intake, frames) = intake(&bounds, Kind::Taken);
    let frame = [message(60), message(60)].concat();
    frames.send(frame.into()).await.expect("open");
    next(&mut intake).await.expect("there is the reserve");
    assert!(!bounds.budget.is_idle());
}

#[tokio::test]
async fn an_announced_length_above_the_limit_ends_the_call() {
    let bounds = bounds(100);
    let (mut intake, frames) = intake(&bounds, Kind::Taken);
    frames.send(Bytes::from_static(&[0, 0x7f, 0xff, 0xff, 0xff])).await.expect("open");
    let status = next(&mut intake).await.expect_err("2 GiB");
    assert_eq!(status.code(), tonic::Code::OutOfRange);
    assert_eq!(status.message(), "the message has 2147483647 bytes, 100000 are allowed");
    assert!(bounds.budget.is_idle());
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_message_must_come_in_time_however_slowly_it_drips() {
    let bounds = bounds(100);
    let (mut intake, frames) = intake(&bounds, Kind::Taken);
    let begun = Instant::now();
    let drip = async {
        for byte in message(90) {
            frames.send(Bytes::copy_from_slice(&[byte])).await.expect("open");
            tokio::time::sleep(TIMEOUT / 10).await;
        }
    };
    let read = async {
        loop {
            if let Err(status) = next(&mut intake).await {
                return status;
            }
        }
    };
    let status = tokio::select! {
        () = drip => panic!("a message of 90 bytes came whole in 90 tenths of the time"),
        status = read => status,
    };
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    // The prefix counts, and then the message with its own time.
    assert!(begun.elapsed() <= 2 * TIMEOUT, "{:?}", begun.elapsed());
    drop(intake);
    assert!(bounds.budget.is_idle());
}

#[tokio::test(start_paused = true)]
async fn a_stream_may_be_silent_between_messages() {
    let bounds = bounds(100);
    let (mut intake, frames) = intake(&bounds, Kind::Taken);
    frames.send(message(20)).await.expect("open");
    next(&mut intake).await.expect("there is room");
    let silence = tokio::time::timeout(100 * TIMEOUT, next(&mut intake));
    assert!(silence.await.is_err(), "nothing came, and that is no error");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_does_not_end_behind_its_message_gives_its_room_back() {
    let bounds = bounds(100_000);
    for (len, is_ended) in [(60_000, true), (8000, false)] {
        let (mut intake, frames) = intake(&bounds, Kind::Passing);
        frames.send(message(len)).await.expect("open");
        let mut came = 0;
        while came < usize::try_from(len).expect("small") {
            came += next(&mut intake).await.expect("there is room").len();
        }
        let silence = tokio::time::timeout(100 * TIMEOUT, next(&mut intake)).await;
        assert_eq!(silence.is_ok_and(|frame| frame.is_err()), is_ended, "{len} bytes");
        drop(intake);
        assert!(bounds.budget.is_idle());
    }
}

#[tokio::test]
async fn the_end_of_a_message_is_handed_on_before_the_next_one_waits_for_room() {
    let bounds = bounds(120);
    let _reserve = take_reserve(&bounds).await;
    let mut streams = [intake(&bounds, Kind::Taken), intake(&bounds, Kind::Taken)];
    for (intake, frames) in &mut streams {
        frames.send(message(60).slice(..50)).await.expect("open");
        next(intake).await.expect("there is room for both");
        let end_and_next = [message(60).slice(50..), message(60)].concat();
        frames.send(end_and_next.into()).await.expect("open");
    }
    for (intake, _) in &mut streams {
        assert_eq!(next(intake).await.expect("it needs no more room").len(), 10);
        assert!(is_waiting(intake), "the next one does");
        drop(intake.ledger().take().expect("it came whole"));
        assert_eq!(next(intake).await.expect("there is room now").len(), 60);
    }
}
