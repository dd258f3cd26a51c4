//! The same done for many things, on every processor at once.

use std::num::NonZero;
use std::sync::Mutex;
use std::thread;

/// Most threads at once: each may hold a piece of a journal.
const THREADS_MAX: usize = 8;

/// Does `act` for each thing; what came of them, in their order. Each thread has something of its own, which `begin` makes.
///
/// # Errors
/// The first error in the order of the things. What comes after it may not be done any more.
pub(super) fn on_each<T, C, R, E>(
    things: &[T],
    begin: impl Fn() -> Result<C, E> + Sync,
    act: impl Fn(&mut C, &T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E>
where
    T: Sync,
    R: Send,
    E: Send,
{
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(THREADS_MAX).min(things.len());
    if threads <= 1 {
        let mut own = begin()?;
        return things.iter().map(|thing| act(&mut own, thing)).collect();
    }
    let queue = Mutex::new(things.iter().enumerate());
    let next = || queue.lock().ok().and_then(|mut queue| queue.next());
    let stop = || queue.lock().map(|mut queue| *queue = [].iter().enumerate()).unwrap_or_default();
    let work = || -> Vec<(usize, Result<R, E>)> {
        let mut done = Vec::new();
        let mut own = match begin() {
            Ok(own) => own,
            Err(error) => return vec![(0, Err(error))],
        };
        while let Some((index, thing)) = next() {
            let came = act(&mut own, thing);
            if came.is_err() {
                stop();
            }
            done.push((index, came));
        }
        done
    };
    let mut all: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let done = running.into_iter().map(|thread| thread.join().unwrap_or_else(|why| std::panic::resume_unwind(why)));
        done.flatten().collect()
    });
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, came)| came).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_each_is_told_in_their_order_and_the_first_error_alone() {
        let things: Vec<u32> = (0..1_000).collect();
        let begin = || Ok::<_, u32>(());
        assert_eq!(on_each(&things, begin, |(), thing| Ok(thing * 2)), Ok(things.iter().map(|one| one * 2).collect()));
        assert_eq!(on_each(&things, begin, |(), one| if *one < 700 { Ok(*one) } else { Err(*one) }), Err(700));
        assert_eq!(on_each(&things, || Err::<(), _>(9), |(), one| Ok(*one)), Err(9));
        assert_eq!(on_each(&[] as &[u32], begin, |(), one| Ok(*one)), Ok(Vec::new()));
    }
}
