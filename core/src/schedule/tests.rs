use jiff::civil;
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;

fn rule(kind: Kind, expression: &str, zone: &str) -> Rule {
    Rule {
        kind,
        expression: expression.to_owned(),
        time_zone: zone.to_owned(),
        jitter_ms: 0,
        anchor: 0,
    }
}

fn cron(line: &str, zone: &str) -> Timing {
    Timing::new(&rule(Kind::Cron, line, zone)).unwrap()
}

fn every(span: &str) -> Timing {
    Timing::new(&rule(Kind::Interval, span, "UTC")).unwrap()
}

fn at(text: &str) -> i64 {
    let moment: jiff::Timestamp = text.parse().unwrap();
    moment.as_millisecond()
}

/// The next firings after a moment, as the clock of the zone shows them.
fn next(timing: &Timing, after: &str, count: usize) -> Vec<String> {
    let mut moment = at(after);
    let mut all = Vec::new();
    for _ in 0..count {
        moment = timing.next_after(moment).unwrap();
        all.push(timing.shown(moment).unwrap());
    }
    all
}

#[test]
fn a_time_of_day_that_the_clock_leaves_out_comes_at_the_change() {
    let berlin = cron("30 2 * * *", "Europe/Berlin");
    assert_eq!(
        next(&berlin, "2026-03-27T12:00:00Z", 3),
        [
            "2026-03-28T02:30:00+01:00",
            "2026-03-29T03:00:00+02:00",
            "2026-03-30T02:30:00+02:00",
        ]
    );
    // Several of them are one, also together with the hour after the change.
    let several = cron("0,20,40 2,3 * * *", "Europe/Berlin");
    assert_eq!(
        next(&several, "2026-03-29T00:30:00Z", 3),
        [
            "2026-03-29T03:00:00+02:00",
            "2026-03-29T03:20:00+02:00",
            "2026-03-29T03:40:00+02:00",
        ]
    );
}

#[test]
fn a_time_of_day_that_the_clock_shows_twice_comes_once() {
    let berlin = cron("30 2 * * *", "Europe/Berlin");
    let expected = [
        "2026-10-24T02:30:00+02:00",
        "2026-10-25T02:30:00+02:00",
        "2026-10-26T02:30:00+01:00",
    ];
    assert_eq!(next(&berlin, "2026-10-23T12:00:00Z", 3), expected);
    // Also for who asks in the second of the two hours.
    for after in [
        "2026-10-25T01:00:00Z",
        "2026-10-25T01:10:00Z",
        "2026-10-25T01:59:59Z",
    ] {
        assert_eq!(next(&berlin, after, 1), expected[2..]);
    }
    assert_eq!(
        next(
            &cron("0 2,3 * * *", "Europe/Berlin"),
            "2026-10-24T22:00:00Z",
            3
        ),
        [
            "2026-10-25T02:00:00+02:00",
            "2026-10-25T03:00:00+01:00",
            "2026-10-26T02:00:00+01:00",
        ]
    );
}

#[test]
fn what_follows_the_clock_neither_stops_nor_doubles() {
    let often = cron("*/20 * * * *", "Europe/Berlin");
    assert_eq!(
        next(&often, "2026-10-25T00:20:00Z", 6),
        [
            "2026-10-25T02:40:00+02:00",
            "2026-10-25T02:00:00+01:00",
            "2026-10-25T02:20:00+01:00",
            "2026-10-25T02:40:00+01:00",
            "2026-10-25T03:00:00+01:00",
            "2026-10-25T03:20:00+01:00",
        ]
    );
    assert_eq!(
        next(&often, "2026-03-29T00:40:00Z", 2),
        ["2026-03-29T03:00:00+02:00", "2026-03-29T03:20:00+02:00"]
    );
    // Half an hour, and a change at midnight.
    assert_eq!(
        next(
            &cron("15 2 * * *", "Australia/Lord_Howe"),
            "2026-10-03T00:00:00Z",
            2
        ),
        ["2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"]
    );
}

#[test]
fn lines_of_all_forms_are_read() {
    let after = "2026-11-28T21:00:00Z";
    for (line, expected) in [
        ("0 3 * * *", "2026-11-29T03:00:00+00:00"),
        ("@daily", "2026-11-29T00:00:00+00:00"),
        ("@hourly", "2026-11-28T22:00:00+00:00"),
        ("0 0 L * *", "2026-11-30T00:00:00+00:00"),
        ("0 9 * * MON-FRI", "2026-11-30T09:00:00+00:00"),
        ("0 9 * * 1#2", "2026-12-14T09:00:00+00:00"),
        ("*/10 * * * * *", "2026-11-28T21:00:10+00:00"),
        ("0 0 29 2 *", "2028-02-29T00:00:00+00:00"),
        ("  0   3  * *   * ", "2026-11-29T03:00:00+00:00"),
    ] {
        assert_eq!(next(&cron(line, "UTC"), after, 1), [expected], "{line}");
    }
    assert_eq!(cron("0 3 * * *", "UTC").words(), "At 03:00.");
    assert_eq!(every("1h30m").words(), "Every 1h30m.");
}

#[test]
fn rules_that_are_wrong_or_never_due_are_refused_with_the_reason() {
    let refused = |kind, expression: &str, zone: &str| {
        Timing::new(&rule(kind, expression, zone))
            .unwrap_err()
            .to_string()
    };
    for line in ["0 0 30 2 *", "0 0 31 4,6,9,11 *"] {
        let reason = refused(Kind::Cron, line, "UTC");
        assert!(reason.contains("never due"), "{line}: {reason}");
    }
    for line in [
        "",
        "*",
        "61 * * * *",
        "* * * *",
        "* * * * * * *",
        "0 25 * * *",
        "a b c d e",
        "@sometimes",
        "0 0 0 * *",
        "*/0 * * * *",
        "5-1 * * * *",
        "0 3 * * 🐌",
        "-1 * * * *",
        ", * * * *",
    ] {
        let reason = refused(Kind::Cron, line, "UTC");
        assert!(reason.contains("is no cron line"), "{line:?}: {reason}");
    }
    assert!(refused(Kind::Cron, &"1,".repeat(200), "UTC").contains("limit"));
    for zone in ["", "Mars/Olympus", "../../etc/passwd", "CEST+1"] {
        assert!(
            refused(Kind::Cron, "0 3 * * *", zone).contains("time zone"),
            "{zone}"
        );
    }
    for span in ["0s", "", "367d", "-5m", "soon"] {
        refused(Kind::Interval, span, "UTC");
    }
    for jitter_ms in [-1, 86_400_001] {
        let rule = Rule {
            jitter_ms,
            ..rule(Kind::Interval, "1h", "UTC")
        };
        assert!(matches!(Timing::new(&rule), Err(BadRule::Jitter(_))));
    }
}

#[test]
fn intervals_begin_at_their_anchor() {
    let timing = Timing::new(&Rule {
        anchor: 7_000,
        ..rule(Kind::Interval, "10s", "UTC")
    })
    .unwrap();
    assert_eq!(timing.next_after(0), Some(17_000));
    assert_eq!(timing.next_after(16_999), Some(17_000));
    assert_eq!(timing.next_after(17_000), Some(27_000));
}

#[test]
fn jitter_is_the_same_for_who_asks_again() {
    let timing = Timing::new(&Rule {
        jitter_ms: 30_000,
        ..rule(Kind::Interval, "1m", "UTC")
    })
    .unwrap();
    let late: Vec<_> = (0..200)
        .map(|n| timing.fire_at(n * 60_000, 1) - n * 60_000)
        .collect();
    assert!(late.iter().all(|late| (0..=30_000).contains(late)));
    assert!(late.iter().min() < Some(&3_000) && late.iter().max() > Some(&27_000));
    assert_eq!(timing.fire_at(0, 1), timing.fire_at(0, 1));
    assert_ne!(timing.fire_at(0, 1), timing.fire_at(0, 2));
}

#[test]
fn missed_firings_are_left_out_made_up_for_once_or_each() {
    let hourly = cron("0 * * * *", "UTC");
    let (due, now) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T05:30:00Z"));
    let planned = |missed, now| plan(&hourly, missed, due, now, 0);
    assert_eq!(planned(Missed::Skip, now).firings, 0);
    assert_eq!(planned(Missed::Once, now).firings, 1);
    assert_eq!(planned(Missed::All, now).firings, 6);
    assert_eq!(
        planned(Missed::Once, now).note.unwrap(),
        "5 firings that were missed are left out"
    );
    assert_eq!(planned(Missed::All, now).note, None);
    let next = Some(at("2026-01-01T06:00:00Z"));
    assert_eq!(planned(Missed::Skip, now).next_at, next);
    // In time, and one of several in time.
    for missed in Missed::ALL {
        assert_eq!(planned(missed, due + 500).firings, 1);
        assert_eq!(planned(missed, due + 500).note, None);
        assert!(planned(missed, at("2026-01-01T05:00:01Z")).firings > 0);
        assert_eq!(planned(missed, due - 1).firings, 0);
    }
    // Away for a year: at most a hundred, and said.
    let year = planned(Missed::All, at("2027-01-01T00:30:00Z"));
    assert_eq!(year.firings, MAX_FIRINGS);
    assert!(year.note.unwrap().contains("at most 100"));
}

#[test]
fn a_task_that_has_not_ended_is_not_overrun_unless_that_is_allowed() {
    let settled = |overlap, is_live| settle(overlap, is_live, 0, 1);
    assert_eq!(settled(Overlap::Skip, true).left_out, 1);
    assert_eq!(settled(Overlap::Queue, true).pending, 1);
    assert!(settled(Overlap::Cancel, true).cancels);
    assert_eq!(settled(Overlap::Allow, true).start, 1);
    for overlap in Overlap::ALL {
        let free = settled(overlap, false);
        assert_eq!((free.start, free.cancels, free.pending), (1, false, 0));
        assert_eq!(settle(overlap, true, 0, 0), Settled::default());
    }
    let full = settle(Overlap::Queue, true, MAX_FIRINGS, 3);
    assert_eq!((full.pending, full.left_out), (MAX_FIRINGS, 3));
}

#[test]
fn words_and_names_are_checked() {
    for overlap in Overlap::ALL {
        assert_eq!(Overlap::parse(overlap.as_str()), Some(overlap));
    }
    for missed in Missed::ALL {
        assert_eq!(Missed::parse(missed.as_str()), Some(missed));
    }
    assert!(check_policies(Overlap::Skip, Missed::All).is_err());
    assert!(check_policies(Overlap::Queue, Missed::All).is_ok());
    for wrong in ["", " a", "a\n", &"x".repeat(81)] {
        assert!(check_name(wrong).is_err(), "{wrong:?}");
    }
    assert!(check_name("täglich: aufräumen").is_ok());
}

const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Asia/Kathmandu",
    "Africa/Casablanca",
    "Pacific/Apia",
];

/// From 2005 to 2035.
fn moments() -> impl Strategy<Value = i64> {
    1_104_537_600_000_i64..2_051_222_400_000
}

#[test]
fn what_falls_on_a_day_that_there_is_not_comes_when_the_clock_goes_on() {
    let timing = cron("0 1 * * *", "Pacific/Apia");
    let mut last = at("2011-12-29T10:00:00Z");
    // On the 29th at one; at the beginning of the 31st for the 30th; on the 31st at one.
    for expected in [
        "2011-12-29T11:00:00Z",
        "2011-12-30T10:00:00Z",
        "2011-12-30T11:00:00Z",
    ] {
        last = timing.next_after(last).unwrap();
        assert_eq!(last, at(expected));
    }
}

proptest! {
    /// However often it is asked, a firing follows the last one, and nothing lies between the two.
    #[test]
    fn firings_are_in_order_and_none_is_passed_over(
        minute in 0..60_u32, hour in 0..24_u32, zone in 0..ZONES.len(), after in moments(), between in 0.0..1.0_f64
    ) {
        let timing = cron(&format!("{minute} {hour} * * *"), ZONES[zone]);
        let first = timing.next_after(after).unwrap();
        prop_assert!(first > after);
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a day")]
        let inside = after + ((first - after) as f64 * between) as i64;
        if inside < first {
            prop_assert_eq!(timing.next_after(inside), Some(first));
        }
    }

    /// A time of day comes exactly once on each day that there is.
    #[test]
    fn a_time_of_day_comes_once_a_day(
        minute in 0..60_u32, hour in 0..24_u32, zone in 0..ZONES.len(), after in moments()
    ) {
        let timing = cron(&format!("{minute} {hour} * * *"), ZONES[zone]);
        let zone = TimeZone::get(ZONES[zone]).unwrap();
        let day = |moment: i64| -> civil::Date {
            let moment = jiff::Timestamp::from_millisecond(moment).unwrap();
            moment.to_zoned(zone.clone()).date()
        };
        let mut last = timing.next_after(after).unwrap();
        for _ in 0..10 {
            let next = timing.next_after(last).unwrap();
            let days = (day(next) - day(last)).get_days();
            // Samoa had no 30 December 2011; see above.
            let is_apia = zone.iana_name() == Some("Pacific/Apia") && day(next) == civil::date(2011, 12, 31);
            prop_assert!(days == 1 || (is_apia && days <= 2), "{} {}", day(last), day(next));
            prop_assert!(is_apia || next - last >= 22 * 3_600_000);
            last = next;
        }
    }

    /// What follows the clock has no pause longer than its step, in zones whose clocks change by whole steps.
    #[test]
    fn what_follows_the_clock_has_no_pauses(zone in 0..ZONES.len(), after in moments()) {
        let timing = cron("*/30 * * * *", ZONES[zone]);
        let mut last = timing.next_after(after).unwrap();
        for _ in 0..10 {
            let next = timing.next_after(last).unwrap();
            prop_assert_eq!(next - last, 1_800_000);
            last = next;
        }
    }

    #[test]
    fn nothing_that_is_typed_panics(line in "[-0-9*/,LW#?A-Z ]{0,30}", zone in ".{0,20}", after in any::<i64>()) {
        for kind in [Kind::Cron, Kind::Interval] {
            let _outcome = Timing::new(&rule(kind, &line, &zone));
            if let Ok(timing) = Timing::new(&rule(kind, &line, "Europe/Berlin")) {
                let _next = timing.next_after(after);
                let _plan = plan(&timing, Missed::All, 0, 1_000_000, after);
            }
        }
    }

    /// Nothing is lost: each firing is made, waits, or is left out and counted.
    #[test]
    fn firings_are_accounted_for(
        overlap in 0..4_usize, is_live in any::<bool>(), pending in 0..200_u32, firings in 0..200_u32
    ) {
        let settled = settle(Overlap::ALL[overlap], is_live, pending, firings);
        prop_assert_eq!(settled.start + settled.pending + settled.left_out, pending + firings);
        if is_live && Overlap::ALL[overlap] != Overlap::Allow {
            prop_assert!(settled.start == 0 || settled.cancels);
        }
    }
}
