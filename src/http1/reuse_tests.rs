use super::*;

const FACTS: ReuseInput = ReuseInput {
    keep_alive: true,
    response: Outcome::Complete,
    unread: Unread::None,
    drain_limit: 100,
    stopping: false,
    upgraded: false,
};

#[test]
fn table_has_one_row_for_each_case() {
    for fate in [Fate::Aborted, Fate::Upgraded, Fate::Kept, Fate::Stopped, Fate::Closed] {
        for rest in [Rest::Nothing, Rest::Little, Rest::Much] {
            assert_eq!(TABLE.iter().filter(|row| row.0 == fate && row.1 == rest).count(), 1, "{fate:?} {rest:?}");
        }
    }
}

#[test]
fn each_state_has_its_move() {
    let closing = ReuseInput { keep_alive: false, ..FACTS };
    let stopping = ReuseInput { stopping: true, ..FACTS };
    let upgraded = ReuseInput { upgraded: true, keep_alive: false, ..FACTS };
    for (facts, unread, expected) in [
        (FACTS, Unread::None, ReuseDecision::Reuse),
        (FACTS, Unread::Buffered, ReuseDecision::Reuse),
        (FACTS, Unread::Bytes(0), ReuseDecision::Reuse),
        (FACTS, Unread::Bytes(1), ReuseDecision::Drain(1)),
        (FACTS, Unread::Bytes(100), ReuseDecision::Drain(100)),
        (FACTS, Unread::Bytes(101), ReuseDecision::Linger),
        (FACTS, Unread::Unknown, ReuseDecision::Linger),
        (closing, Unread::None, ReuseDecision::Close),
        (closing, Unread::Buffered, ReuseDecision::Close),
        (closing, Unread::Bytes(1), ReuseDecision::Linger),
        (closing, Unread::Bytes(101), ReuseDecision::Linger),
        (closing, Unread::Unknown, ReuseDecision::Linger),
        (stopping, Unread::None, ReuseDecision::Linger),
        (stopping, Unread::Bytes(1), ReuseDecision::Linger),
        (stopping, Unread::Unknown, ReuseDecision::Linger),
        (ReuseInput { stopping: true, ..closing }, Unread::None, ReuseDecision::Close),
        (upgraded, Unread::None, ReuseDecision::Upgrade),
        (ReuseInput { stopping: true, ..upgraded }, Unread::None, ReuseDecision::Upgrade),
        (upgraded, Unread::Bytes(1), ReuseDecision::Linger),
        (upgraded, Unread::Unknown, ReuseDecision::Linger),
    ] {
        let facts = ReuseInput { unread, ..facts };
        assert_eq!(next(&facts), expected, "{facts:?}");
    }
}

#[test]
fn aborted_response_always_closes_at_once() {
    for bits in 0..8 {
        for unread in [Unread::None, Unread::Buffered, Unread::Bytes(1), Unread::Bytes(1000), Unread::Unknown] {
            let (keep_alive, stopping, upgraded) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
            let response = Outcome::Aborted;
            assert_eq!(
                next(&ReuseInput { keep_alive, response, unread, drain_limit: 100, stopping, upgraded }),
                ReuseDecision::Close
            );
        }
    }
}
