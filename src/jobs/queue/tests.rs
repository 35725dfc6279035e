use super::*;

fn places(all: usize, vip: usize, per_user: usize) -> Places {
    Places { all, vip, per_user }
}

fn queue(all: usize, per_user: usize) -> Queue<()> {
    Queue::new(places(all, 0, per_user))
}

fn entry(key: u64, user: i32, vip: bool) -> Entry<()> {
    Entry {
        key,
        user,
        vip,
        suspect: false,
        item: (),
    }
}

fn suspect(key: u64, user: i32) -> Entry<()> {
    Entry {
        suspect: true,
        ..entry(key, user, false)
    }
}

fn told(queue: &Queue<()>) -> Vec<u64> {
    queue.in_order().map(|e| e.key).collect()
}

fn drained(mut queue: Queue<()>) -> Vec<u64> {
    std::iter::from_fn(|| queue.pop().map(|e| e.key)).collect()
}

#[test]
fn vip_jobs_go_first_but_every_fourth_place_is_for_others() {
    let mut queue = queue(16, 16);
    for key in 0..3 {
        queue.push(entry(key, 1, false));
    }
    for key in 10..18 {
        queue.push(entry(key, 2, true));
    }
    let expected = [10, 11, 12, 0, 13, 14, 15, 1, 16, 17, 2];
    assert_eq!(told(&queue), expected);
    assert_eq!(drained(queue), expected);
}

#[test]
fn vip_jobs_that_nobody_waits_behind_are_not_counted() {
    let mut queue = queue(16, 16);
    for key in 0..5 {
        queue.push(entry(key, 1, true));
        assert_eq!(queue.pop().map(|e| e.key), Some(key));
    }
    queue.push(entry(5, 2, false));
    queue.push(entry(6, 1, true));
    assert_eq!(drained(queue), [6, 5]);
}

#[test]
fn users_take_turns_and_one_who_has_just_had_a_turn_waits_for_those_who_have_not() {
    let mut queue = queue(16, 16);
    queue.push(entry(0, 1, false));
    assert_eq!(queue.pop().map(|e| e.key), Some(0));
    for key in 1..5 {
        queue.push(entry(key, 1, false));
    }
    queue.push(entry(5, 2, false));
    queue.push(entry(6, 2, false));
    queue.push(entry(7, 3, false));
    // User 1 had the last turn.
    let expected = [5, 7, 1, 6, 2, 3, 4];
    assert_eq!(told(&queue), expected);
    assert_eq!(drained(queue), expected);
}

#[test]
fn vips_take_turns_too() {
    let mut queue = queue(16, 16);
    for (key, user) in [(0, 1), (1, 1), (2, 1), (3, 2), (4, 3)] {
        queue.push(entry(key, user, user != 3));
    }
    assert_eq!(drained(queue), [0, 3, 1, 4, 2]);
}

#[test]
fn both_limits_hold_and_a_released_place_is_free_again() {
    let mut queue = queue(3, 2);
    queue.reserve(1, false, &[]).unwrap();
    queue.push(entry(0, 1, false));
    queue.release(1);
    queue.reserve(1, false, &[]).unwrap();
    let full = queue.reserve(1, false, &[]).unwrap_err();
    assert!(full.own && full.waiting == 2, "{full:?}");
    queue.reserve(2, false, &[]).unwrap();
    let full = queue.reserve(2, false, &[]).unwrap_err();
    assert!(!full.own && full.waiting == 3, "{full:?}");
    queue.release(1);
    queue.reserve(2, false, &[]).unwrap();
}

#[test]
fn a_user_without_a_waiting_job_finds_a_place_unless_as_many_users_wait() {
    let mut queue = queue(16, 4);
    for user in 0..4 {
        for _ in 0..4 {
            queue.reserve(user, false, &[]).unwrap();
        }
    }
    for user in 4..16 {
        queue.reserve(user, false, &[]).unwrap();
        let full = queue.reserve(user, false, &[]).unwrap_err();
        assert!(!full.own, "{full:?}");
    }
    let full = queue.reserve(16, false, &[]).unwrap_err();
    assert!(!full.own && full.waiting == 28, "{full:?}");
}

#[test]
fn vips_have_places_of_their_own_beyond_the_others() {
    let mut queue: Queue<()> = Queue::new(places(2, 2, 4));
    queue.reserve(1, false, &[]).unwrap();
    queue.reserve(1, false, &[]).unwrap();
    assert!(queue.reserve(1, false, &[]).is_err());
    queue.reserve(9, true, &[]).unwrap();
    queue.reserve(9, true, &[]).unwrap();
    assert!(queue.reserve(9, true, &[]).is_err());
    // The places of VIPs are not for others, those of others are for VIPs too.
    queue.release(1);
    queue.reserve(9, true, &[]).unwrap();
    assert!(queue.reserve(1, false, &[]).is_err());
    queue.reserve(8, true, &[]).unwrap();
    queue.reserve(2, false, &[]).unwrap();
}

#[test]
fn jobs_that_wait_elsewhere_take_places_too() {
    let mut queue = queue(3, 2);
    let aside = [(1, false), (1, false), (2, false)];
    let full = queue.reserve(1, false, &aside).unwrap_err();
    assert!(full.own && full.waiting == 2, "{full:?}");
    let full = queue.reserve(2, false, &aside).unwrap_err();
    assert!(!full.own && full.waiting == 3, "{full:?}");
    queue.reserve(3, false, &aside).unwrap();
}

#[test]
fn a_removed_job_leaves_its_place() {
    let mut queue = queue(1, 1);
    queue.push(entry(7, 1, true));
    assert!(queue.reserve(1, true, &[]).is_err());
    assert!(queue.remove(8).is_none());
    assert_eq!(queue.remove(7).map(|e| e.key), Some(7));
    assert_eq!(queue.len(), 0);
    queue.reserve(1, true, &[]).unwrap();
}

#[test]
fn jobs_from_before_a_restart_are_taken_whatever_the_limits() {
    let mut queue = queue(1, 1);
    for key in 0..5 {
        queue.push(entry(key, 1, false));
    }
    assert_eq!(drained(queue), [0, 1, 2, 3, 4]);
}

#[test]
fn a_job_that_the_process_died_of_runs_after_all_that_waited_and_not_after_all_that_come() {
    let mut queue = queue(16, 16);
    queue.push(entry(0, 1, false));
    queue.push(entry(1, 2, false));
    queue.push(entry(2, 2, false));
    queue.push(suspect(10, 3));
    queue.push(suspect(11, 1));
    // Of those that come later only one per turn passes them.
    queue.push(entry(20, 4, false));
    queue.push(entry(21, 4, false));
    let expected = [0, 1, 20, 2, 10, 11, 21];
    assert_eq!(told(&queue), expected);
    assert_eq!(drained(queue), expected);
}

#[test]
fn a_suspect_goes_on_when_those_before_it_are_cancelled() {
    let mut queue = queue(16, 16);
    queue.push(entry(0, 1, false));
    queue.push(suspect(10, 3));
    assert_eq!(queue.len(), 2);
    assert!(queue.remove(0).is_some());
    queue.push(entry(1, 1, false));
    assert_eq!(told(&queue), [10, 1]);
    assert_eq!(drained(queue), [10, 1]);
    // A suspect alone is as any other.
    let mut queue = self::queue(16, 16);
    queue.push(suspect(10, 3));
    assert!(queue.remove(10).is_some());
    queue.push(suspect(11, 3));
    assert_eq!(drained(queue), [11]);
}

/// What clients are told is what happens, whatever arrives before.
#[test]
fn the_order_that_is_told_is_the_order_that_runs() {
    let mut seed = 1u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    for _ in 0..200 {
        let mut queue = queue(64, 64);
        for key in 0..40 {
            match random(5) {
                0 => {
                    queue.pop();
                }
                1 => queue.push(suspect(key, random(4) as i32)),
                _ => {
                    let user = random(6) as i32;
                    queue.push(entry(key, user, random(3) == 0));
                }
            }
        }
        let expected = told(&queue);
        assert_eq!(expected.len(), queue.len());
        assert_eq!(drained(queue), expected);
    }
}
