use super::*;
use crate::http::status::Status;

const NO_BODY: ResponseFraming = ResponseFraming::NoBody;
const CHUNKED: ResponseFraming = ResponseFraming::Chunked;
const UNTIL_CLOSE: ResponseFraming = ResponseFraming::UntilClose;

const GET: ResponseContext = ResponseContext { head_method: false, version: Version::Http11, persistent: true };
const HEAD: ResponseContext = ResponseContext { head_method: true, ..GET };
const OLD_GET: ResponseContext = ResponseContext { version: Version::Http10, persistent: false, ..GET };
const OLD_HEAD: ResponseContext = ResponseContext { head_method: true, ..OLD_GET };
const OLD_KEPT: ResponseContext = ResponseContext { persistent: true, ..OLD_GET };

fn answer(status: u16, content_length: Option<u64>) -> ResponseHead {
    let mut head = ResponseHead::new(Status::new(status).unwrap(), b"");
    head.content_length = content_length;
    head
}

// RFC 9112 §6.3, RFC 9110 §8.6, §9.3.2, §15.3.5, §15.3.6, §15.4.5
#[test]
fn framing_follows_method_status_and_size() {
    use BodySize::{Known, Unknown};
    for (asked, status, announced, size, framing, content_length) in [
        // The application's length.
        (GET, 200, Some(5), Known(5), ResponseFraming::Length(5), Some(5)),
        (GET, 200, Some(5), Unknown, ResponseFraming::Length(5), Some(5)),
        (GET, 200, Some(0), Unknown, ResponseFraming::Length(0), Some(0)),
        (GET, 200, Some(10), Known(9), ResponseFraming::Length(10), Some(10)),
        (GET, 200, Some(3), Known(9), ResponseFraming::Length(3), Some(3)),
        (OLD_GET, 200, Some(5), Unknown, ResponseFraming::Length(5), Some(5)),
        // The computed length.
        (GET, 200, None, Known(5), ResponseFraming::Length(5), Some(5)),
        (GET, 200, None, Known(0), ResponseFraming::Length(0), Some(0)),
        (GET, 404, None, Known(5), ResponseFraming::Length(5), Some(5)),
        (OLD_GET, 200, None, Known(5), ResponseFraming::Length(5), Some(5)),
        // No length.
        (GET, 200, None, Unknown, CHUNKED, None),
        (GET, 500, None, Unknown, CHUNKED, None),
        (OLD_GET, 200, None, Unknown, UNTIL_CLOSE, None),
        (OLD_KEPT, 200, None, Unknown, UNTIL_CLOSE, None),
        // HEAD.
        (HEAD, 200, Some(5), Known(0), NO_BODY, Some(5)),
        (HEAD, 200, Some(5), Known(5), NO_BODY, Some(5)),
        (HEAD, 200, Some(0), Known(0), NO_BODY, Some(0)),
        (HEAD, 200, Some(5), Unknown, NO_BODY, Some(5)),
        (HEAD, 200, None, Known(5), NO_BODY, Some(5)),
        (HEAD, 200, None, Known(0), NO_BODY, None),
        (HEAD, 200, None, Unknown, NO_BODY, None),
        (OLD_HEAD, 200, None, Unknown, NO_BODY, None),
        // 204 and 1xx.
        (GET, 204, Some(5), Known(5), NO_BODY, None),
        (GET, 204, None, Unknown, NO_BODY, None),
        (HEAD, 204, Some(5), Known(0), NO_BODY, None),
        (OLD_GET, 204, Some(5), Known(5), NO_BODY, None),
        (GET, 101, Some(5), Known(5), NO_BODY, None),
        // 304.
        (GET, 304, Some(5), Known(5), NO_BODY, Some(5)),
        (GET, 304, None, Known(5), NO_BODY, None),
        (GET, 304, None, Unknown, NO_BODY, None),
        (HEAD, 304, Some(5), Unknown, NO_BODY, Some(5)),
        (HEAD, 304, None, Known(5), NO_BODY, None),
        // 205.
        (GET, 205, Some(5), Known(5), NO_BODY, Some(0)),
        (GET, 205, None, Unknown, NO_BODY, Some(0)),
        (HEAD, 205, None, Unknown, NO_BODY, Some(0)),
    ] {
        let plan = response(&asked, &answer(status, announced), size, false);
        assert_eq!(
            (plan.framing, plan.content_length),
            (framing, content_length),
            "{asked:?} {status} {announced:?} {size:?}"
        );
    }
}

#[test]
fn nothing_but_http11_is_ever_chunked_and_no_bodyless_response_is() {
    for status in 100..=999 {
        for asked in [GET, HEAD, OLD_GET, OLD_HEAD, OLD_KEPT] {
            for announced in [None, Some(5)] {
                for size in [BodySize::Known(0), BodySize::Known(5), BodySize::Unknown] {
                    let head = answer(status, announced);
                    let plan = response(&asked, &head, size, false);
                    let bodyless = asked.head_method || head.status().forbids_body() || status == 205;
                    assert_eq!(plan.framing == NO_BODY, bodyless);
                    assert!(plan.framing != CHUNKED || asked.version == Version::Http11);
                    assert!(plan.framing != CHUNKED || plan.content_length.is_none());
                    assert!(plan.framing != UNTIL_CLOSE || !plan.keep_alive);
                }
            }
        }
    }
}

// RFC 9112 §9.3, §9.6
#[test]
fn connection_persists_only_if_all_agree() {
    for (asked, must_close, app_closes, announced, keep_alive, option) in [
        (GET, false, false, Some(5), true, None),
        (GET, false, false, None, true, None),
        (GET, true, false, Some(5), false, Some("close")),
        (GET, false, true, Some(5), false, Some("close")),
        (ResponseContext { persistent: false, ..GET }, false, false, Some(5), false, Some("close")),
        (HEAD, false, false, None, true, None),
        (OLD_GET, false, false, Some(5), false, Some("close")),
        (OLD_KEPT, false, false, Some(5), true, Some("keep-alive")),
        (OLD_KEPT, false, false, None, false, Some("close")),
        (OLD_KEPT, true, false, Some(5), false, Some("close")),
        (OLD_KEPT, false, true, Some(5), false, Some("close")),
        (ResponseContext { head_method: true, ..OLD_KEPT }, false, false, None, true, Some("keep-alive")),
    ] {
        let mut head = answer(200, announced);
        head.close = app_closes;
        let plan = response(&asked, &head, BodySize::Unknown, must_close);
        assert_eq!((plan.keep_alive, plan.connection), (keep_alive, option), "{asked:?} {must_close} {app_closes}");
    }
}
