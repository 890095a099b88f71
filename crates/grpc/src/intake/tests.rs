//! What the door promises: nothing is read without permits, and nothing waits for ever.

use std::pin::pin;
use std::task::Waker;

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

fn bounds(budget: usize) -> Bounds {
    Bounds::new(budget, TIMEOUT)
}

fn intake(bounds: &Bounds, kind: Kind) -> (Intake, mpsc::Sender<Bytes>) {
    let (frames, receiver) = mpsc::channel(8);
    (Intake::new(Body::new(Feed(receiver)), bounds, 1000, kind), frames)
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
async fn permits_are_asked_for_when_the_length_comes_not_the_bytes() {
    let bounds = bounds(100);
    let (mut intake, frames) = intake(&bounds, Kind::Taken);
    let whole = message(90);
    frames.send(whole.slice(..3)).await.expect("open");
    next(&mut intake).await.expect("nothing is known yet");
    assert_eq!(bounds.budget.available_permits(), 100);
    frames.send(whole.slice(3..6)).await.expect("open");
    next(&mut intake).await.expect("there is room");
    assert_eq!(bounds.budget.available_permits(), 10);
    assert!(intake.ledger().has_begun());
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
    assert_eq!(bounds.budget.available_permits(), 40);
    drop(taken);
    assert_eq!(bounds.budget.available_permits(), 100);
}

#[tokio::test]
async fn a_call_whose_messages_nobody_takes_holds_the_last_one_only() {
    let bounds = bounds(100);
    let (mut intake, frames) = intake(&bounds, Kind::Passing);
    for _ in 0..5 {
        frames.send(message(60)).await.expect("open");
        next(&mut intake).await.expect("the one before is given back");
        assert_eq!(bounds.budget.available_permits(), 40);
    }
    drop(intake);
    assert_eq!(bounds.budget.available_permits(), 100);
}

#[tokio::test]
async fn a_frame_with_more_than_the_whole_budget_is_let_in_alone() {
    let bounds = bounds(100);
    let (mut intake, frames) = intake(&bounds, Kind::Taken);
    let frame = [message(60), message(60)].concat();
    frames.send(frame.into()).await.expect("open");
    next(&mut intake).await.expect("all there is suffices");
    assert_eq!(bounds.budget.available_permits(), 0);
}

#[tokio::test]
async fn an_announced_length_above_the_limit_ends_the_call() {
    let bounds = bounds(100);
    let (mut intake, frames) = intake(&bounds, Kind::Taken);
    frames.send(Bytes::from_static(&[0, 0x7f, 0xff, 0xff, 0xff])).await.expect("open");
    let status = next(&mut intake).await.expect_err("2 GiB");
    assert_eq!(status.code(), tonic::Code::OutOfRange);
    assert_eq!(status.message(), "the message has 2147483647 bytes, 1000 are allowed");
    assert_eq!(bounds.budget.available_permits(), 100);
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
    assert_eq!(bounds.budget.available_permits(), 100);
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

#[tokio::test]
async fn the_end_of_a_message_is_handed_on_before_the_next_one_waits_for_room() {
    let bounds = bounds(120);
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
