//! Whole days: who is silent is kept for as long as he may be (RFC 5382, REQ-5), and not for longer; and whoever is
//! kept costs nothing meanwhile.

use super::*;
use crate::testing::{Bytes, Recorder};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

const OPEN: Duration = Duration::from_secs(2 * 3600 + 4 * 60);
const BEGINS_OR_ENDS: Duration = Duration::from_secs(4 * 60);

/// One connection, from event to event.
struct Day {
    world: World,
    guest_is_there: bool,
    guests_program_acts: bool,
    /// When the guest was heard last.
    heard: Instant,
    /// How often it was time for us to do something.
    woken: usize,
}

impl Day {
    /// The guest has connected to somebody who ends nothing, or who is not there.
    fn new(is_silent: bool) -> Self {
        let mut world = World::new(quiet());
        *world.host.end.borrow_mut() = HostEnd { stays: true, is_silent, ..HostEnd::default() };
        // The guest's program ends nothing either before it has that.
        world.scenario.down = usize::MAX;
        let heard = world.now;
        let mut day = Self { world, guest_is_there: true, guests_program_acts: true, heard, woken: 0 };
        day.pass(SECOND);
        day
    }

    fn guest(&mut self) -> &mut GuestSocket<'static> {
        self.world.sockets.get_mut(self.world.guest)
    }

    fn act(&mut self) {
        let world = &mut self.world;
        if self.guest_is_there {
            if self.guests_program_acts {
                world.guests_program_acts();
            }
            world.guests_stack_acts();
        } else {
            world.to_guest.packets.clear();
            world.to_us.packets.clear();
        }
        if world.to_us.next().is_some_and(|at| at <= world.now) {
            self.heard = world.now;
        }
        self.woken += usize::from(world.tcp.next_deadline().is_some_and(|at| at <= world.now));
        world.we_act();
        assert!(world.tcp.next_deadline().is_none_or(|at| at > world.now), "nobody would ever sleep");
        assert_eq!(world.tcp.timers.len(), world.tcp.len(), "times that somebody looks at");
    }

    /// Lets time go on to the next event, but not beyond `until`.
    fn go_on(&mut self, until: Instant) {
        let world = &mut self.world;
        let guest = world.guests_deadline().filter(|_| self.guest_is_there);
        let goes_on = self.guest_is_there && self.guests_program_acts && world.guests_program_goes_on();
        let program = goes_on.then(|| world.now + SECOND / 1000);
        let events = [world.to_guest.next(), world.to_us.next(), world.tcp.next_deadline(), guest, program];
        world.now = events.into_iter().flatten().min().unwrap_or(until).clamp(world.now, until);
        self.act();
    }

    fn pass(&mut self, time: Duration) {
        let until = self.world.now + time;
        self.act();
        while self.world.now < until {
            self.go_on(until);
        }
    }

    /// How long it lives after the guest's last word.
    fn lives(&mut self) -> Duration {
        let until = self.world.now + DAY;
        self.act();
        while self.world.tcp.len() > 0 && self.world.now < until {
            self.go_on(until);
        }
        self.world.now - self.heard
    }

    fn sends(&mut self, bytes: &[u8]) {
        self.world.host.end.borrow_mut().left.extend(bytes);
    }

    fn ends(&mut self) {
        self.world.host.end.borrow_mut().stays = false;
    }

    /// Nothing remembers it, and nobody waits for anything.
    #[track_caller]
    fn nothing_is_left(&self) {
        let tcp = &self.world.tcp;
        let sizes = [tcp.len(), tcp.by_ends.len(), tcp.timers.len(), tcp.due.len(), tcp.buffers.in_use()];
        assert_eq!((sizes, tcp.next_deadline()), ([0; 5], None));
    }

    /// It lives for that long and no longer, and then both ends are told so.
    #[track_caller]
    fn ends_after(mut self, time: Duration) {
        let lived = self.lives();
        assert!(lived >= time && lived <= time + SECOND, "{lived:?}");
        assert!(self.world.host.end.borrow().was_reset);
        self.nothing_is_left();
        assert!(self.woken < 30, "woken {} times", self.woken);
        if self.guest_is_there {
            self.pass(SECOND);
            assert_eq!(self.guest().state(), State::Closed);
        }
    }

    #[track_caller]
    fn falls_silent(mut self) {
        self.woken = 0;
        self.ends_after(OPEN);
    }
}

#[test]
fn a_silent_connection_ends_after_two_hours_and_four_minutes() {
    let mut day = Day::new(false);
    assert_eq!(day.guest().state(), State::Established);
    day.ends_after(OPEN);
}

#[test]
fn so_is_one_that_the_guest_has_half_closed() {
    let mut day = Day::new(false);
    day.guest().close();
    day.pass(SECOND);
    assert!(day.world.host.end.borrow().guest_ended);
    day.ends_after(OPEN);
}

#[test]
fn so_is_one_that_the_host_has_half_closed() {
    let mut day = Day::new(false);
    day.ends();
    day.pass(SECOND);
    assert_eq!(day.guest().state(), State::CloseWait);
    day.ends_after(OPEN);
}

#[test]
fn who_is_asked_and_does_not_answer_has_four_minutes() {
    let mut day = Day::new(true);
    day.guest_is_there = false;
    day.ends_after(BEGINS_OR_ENDS);
}

#[test]
fn a_guest_that_begins_and_does_not_go_on_has_four_minutes() {
    let mut day = Day::new(true);
    day.guest_is_there = false;
    day.world.host.end.borrow_mut().is_silent = false;
    day.ends_after(BEGINS_OR_ENDS);
}

#[test]
fn a_guest_that_does_not_answer_who_connects_has_four_minutes() {
    let mut day = Day::new(true);
    day.guest().abort();
    day.pass(SECOND);
    day.nothing_is_left();
    day.guest_is_there = false;
    let World { tcp, host, to_guest, now, scenario, random, .. } = &mut day.world;
    let (remote, guest) = (([192, 0, 2, 77], 1234).into(), (GUEST, 80).into());
    let end = Rc::new(RefCell::new(HostEnd { stays: true, ..HostEnd::default() }));
    host.end = end.clone();
    tcp.on_incoming(HostSocket(end), remote, guest, *now, &mut ToGuest(to_guest, *now, scenario, random), host);
    day.ends_after(BEGINS_OR_ENDS);
}

#[test]
fn an_end_that_the_guest_does_not_confirm_has_four_minutes() {
    let mut day = Day::new(false);
    day.guest().close();
    day.pass(SECOND);
    day.ends();
    day.guest_is_there = false;
    day.ends_after(BEGINS_OR_ENDS);
}

/// Every two hours is what Linux does unless told otherwise.
#[test]
fn who_asks_now_and_then_ends_after_a_day() {
    for hours in [1, 2] {
        let mut day = Day::new(false);
        day.guest().set_keep_alive(Some((hours * HOUR).into()));
        day.pass(DAY);
        assert_eq!((day.world.tcp.len(), day.guest().state()), (1, State::Established));
        assert!(day.woken < 60, "woken {} times", day.woken);
        day.sends(b"still here");
        day.pass(SECOND);
        assert_eq!(day.world.received, b"still here");
        day.ends();
        day.guest().close();
        day.pass(SECOND);
        day.nothing_is_left();
        assert!(!day.world.host.end.borrow().was_reset);
    }
}

#[test]
fn a_word_every_ten_seconds_for_a_day() {
    let mut day = Day::new(false);
    for _ in 0..DAY.as_secs() / 10 {
        day.sends(b"x");
        day.pass(10 * SECOND);
    }
    assert_eq!((day.world.tcp.len(), day.world.received.len()), (1, 24 * 360));
    assert!(day.woken < 2 * 24 * 360, "woken {} times", day.woken);
    day.falls_silent();
}

/// Its window is shut; it is asked once a minute, and answers.
#[test]
fn a_guest_that_reads_nothing_for_a_day_gets_all_of_it_afterwards() {
    let (mut day, sent) = (Day::new(false), stream(200_000, 3));
    day.guests_program_acts = false;
    day.sends(&sent);
    day.pass(DAY);
    assert_eq!(day.world.tcp.len(), 1);
    assert!(day.woken < 24 * 60 + 60, "woken {} times", day.woken);
    day.guests_program_acts = true;
    for _ in 0..1000 {
        day.pass(SECOND / 10);
    }
    assert!(day.world.received == sent, "{} of {} bytes", agreement(&day.world.received, &sent), sent.len());
    day.falls_silent();
}

/// The guest asks whether there is room by now, and so both are kept.
#[test]
fn a_host_that_reads_nothing_for_a_day_gets_all_of_it_afterwards() {
    let (mut day, sent) = (Day::new(false), stream(2_000_000, 5));
    day.world.scenario.host_takes = 0;
    day.world.up = sent.clone();
    day.pass(DAY);
    assert_eq!((day.world.tcp.len(), day.world.host.end.borrow().got.len()), (1, 0));
    assert!(day.woken < 100, "woken {} times", day.woken);
    day.world.scenario.host_takes = 100_000;
    for _ in 0..1000 {
        day.pass(SECOND / 10);
    }
    let end = day.world.host.end.clone();
    assert!(end.borrow().got == sent, "{} of {} bytes", agreement(&end.borrow().got, &sent), sent.len());
    day.falls_silent();
}

/// Ten a minute to where nobody answers: no more are kept than those of four minutes, and nobody is woken for each.
#[test]
fn a_day_of_connections_that_nobody_answers() {
    let begin = Instant::now();
    let mut tcp = Tcp::<OneHost>::new(1500, 1000, begin);
    let end = HostEnd { is_silent: true, ..HostEnd::default() };
    let mut host = OneHost { end: Rc::new(RefCell::new(end)), token: None };
    let (mut link, mut woken) = (Recorder::default(), 0);
    let mut sleep = |tcp: &mut Tcp<OneHost>, until: Instant| {
        while let Some(at) = tcp.next_deadline().filter(|at| *at <= until) {
            woken += 1;
            tcp.on_time(at, &mut link);
            while tcp.all_go_on(at, &mut link) {}
        }
    };
    for number in 0..24 * 60 * 10_u16 {
        let now = begin + u32::from(number) * MINUTE / 10;
        sleep(&mut tcp, now);
        let port = 1000 + number;
        let [high, low] = port.to_be_bytes();
        let syn = [high, low, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0];
        let bytes = Bytes::new(&GUEST.to_string(), "192.0.2.1", smoltcp::wire::IpProtocol::Tcp, &syn);
        let failed = tcp.on_one(&bytes.packet(), now, &mut Recorder::default(), &mut host);
        assert!(failed.is_none());
        assert!(tcp.len() <= 41 && tcp.timers.len() == tcp.len(), "{} and {}", tcp.len(), tcp.timers.len());
    }
    assert_eq!(tcp.len(), 40);
    sleep(&mut tcp, begin + DAY + BEGINS_OR_ENDS);
    assert_eq!((tcp.len(), tcp.by_ends.len(), tcp.next_deadline()), (0, 0, None));
    assert!(woken <= 24 * 60 * 10, "woken {woken} times");
}
