//! One task both waits for something on a connection and drives the connection. What the two halves tell
//! each other through their channels would wake that task for what it is about to see anyway, and cost it
//! one more turn for each event. A [`Wakeups`] keeps such wake-ups in: whoever takes a turn goes round again
//! where one came, and only what happens between turns wakes the task. A client's connection has one, and
//! each of the upstream's.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Nobody is polling: a wake-up goes to the task.
const AT_REST: u8 = 0;
const POLLING: u8 = 1;
/// A wake-up came while polling.
const WOKEN: u8 = 2;
/// How often one turn goes round before others get theirs.
const ROUNDS: usize = 8;

/// The waker of one connection and of who waits on it.
#[derive(Debug)]
pub(crate) struct Wakeups {
    state: Arc<State>,
    waker: Waker,
}

#[derive(Debug)]
struct State {
    turn: AtomicU8,
    /// Who took the last turn.
    task: Mutex<Waker>,
}

impl Wakeups {
    pub(crate) fn new() -> Self {
        let task = Mutex::new(Waker::noop().clone());
        let state = Arc::new(State { turn: AtomicU8::new(AT_REST), task });
        Self { waker: state.clone().into(), state }
    }

    /// Polls until nothing more happens by itself; from then on a wake-up reaches the task of `cx`.
    pub(crate) fn take<T>(
        &self,
        cx: &Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.state.belongs_to(cx.waker());
        let mut inner = Context::from_waker(&self.waker);
        for _ in 0..ROUNDS {
            self.state.turn.store(POLLING, Ordering::SeqCst);
            let polled = poll(&mut inner);
            let rests = self.state.turn.swap(AT_REST, Ordering::SeqCst) == POLLING;
            if polled.is_ready() || rests {
                return polled;
            }
        }
        // There is always more to do, or the runtime wants its thread back.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Forgets the wake-ups that came until now in this turn: what they are about is polled next, or has
    /// been. Between turns there are none to forget.
    pub(crate) fn catch_up(&self) {
        let turn = &self.state.turn;
        let _ = turn.compare_exchange(WOKEN, POLLING, Ordering::SeqCst, Ordering::SeqCst);
    }
}

impl State {
    fn belongs_to(&self, task: &Waker) {
        let mut current = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        current.clone_from(task);
    }
}

impl Wake for State {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let kept = |turn| (turn != AT_REST).then_some(WOKEN);
        if self.turn.fetch_update(Ordering::SeqCst, Ordering::SeqCst, kept).is_err() {
            self.task.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    /// Counts how often a task is woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A task, its waker, and a turn that is at rest.
    fn at_rest() -> (Arc<Task>, Waker, Wakeups) {
        let task = Arc::new(Task::default());
        (task.clone(), task.into(), Wakeups::new())
    }

    #[test]
    fn a_wake_up_within_a_turn_is_another_round_and_one_between_turns_reaches_the_task() {
        let (task, waker, turn) = at_rest();
        let cx = Context::from_waker(&waker);
        let mut kept = None;
        let mut rounds = 0;
        let polled = turn.take(&cx, |cx| {
            rounds += 1;
            kept = Some(cx.waker().clone());
            if rounds < 3 {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        });
        assert_eq!((polled, rounds, task.0.load(Ordering::SeqCst)), (Poll::Pending, 3, 0));
        kept.expect("it was polled").wake();
        assert_eq!(task.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn what_always_wakes_itself_does_not_keep_the_thread() {
        let (task, waker, turn) = at_rest();
        let cx = Context::from_waker(&waker);
        let mut rounds = 0;
        let polled = turn.take(&cx, |cx| {
            rounds += 1;
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert_eq!((polled, rounds, task.0.load(Ordering::SeqCst)), (Poll::Pending, ROUNDS, 1));
    }

    #[test]
    fn nothing_is_caught_up_with_between_turns() {
        let (task, waker, turn) = at_rest();
        let cx = Context::from_waker(&waker);
        let mut kept = None;
        let _ = turn.take(&cx, |cx| {
            kept = Some(cx.waker().clone());
            Poll::<()>::Pending
        });
        turn.catch_up();
        kept.expect("it was polled").wake();
        assert_eq!(task.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn what_is_caught_up_with_needs_no_other_round() {
        let cx = Context::from_waker(Waker::noop());
        let turn = Wakeups::new();
        let mut rounds = 0;
        let polled = turn.take(&cx, |cx| {
            rounds += 1;
            cx.waker().wake_by_ref();
            turn.catch_up();
            Poll::<()>::Pending
        });
        assert_eq!((polled, rounds), (Poll::Pending, 1));
    }
}
