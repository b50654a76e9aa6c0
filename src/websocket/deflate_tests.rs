use proptest::prelude::*;

use super::*;

#[test]
fn first_acceptable_offer_is_accepted() {
    for (offer, answer) in [
        ("permessage-deflate", Some("permessage-deflate; server_max_window_bits=12")),
        (
            "permessage-deflate; client_max_window_bits",
            Some("permessage-deflate; server_max_window_bits=12; client_max_window_bits=12"),
        ),
        (
            "PerMessage-Deflate;client_max_window_bits=10;server_max_window_bits=\"9\"",
            Some("permessage-deflate; server_max_window_bits=9; client_max_window_bits=10"),
        ),
        (
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            Some(
                "permessage-deflate; server_max_window_bits=12; server_no_context_takeover; client_no_context_takeover",
            ),
        ),
        ("x-webkit-deflate-frame, permessage-deflate", Some("permessage-deflate; server_max_window_bits=12")),
        (
            "permessage-deflate; server_max_window_bits=8, permessage-deflate",
            Some("permessage-deflate; server_max_window_bits=12"),
        ),
        ("permessage-deflate; server_max_window_bits=8", None),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; server_max_window_bits=09", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; client_max_window_bits=7", None),
        ("permessage-deflate; server_no_context_takeover=1", None),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
        ("permessage-deflate; unknown", None),
        ("permessage-bzip2", None),
        ("", None),
    ] {
        assert_eq!(
            DeflateParameters::negotiate(offer.as_bytes()).map(|parameters| parameters.header_value()).as_deref(),
            answer,
            "{offer}"
        );
    }
}

// RFC 7692 §7.2.3: the examples.
#[test]
fn examples_of_the_specification_are_expanded() {
    let parameters = DeflateParameters::negotiate(b"permessage-deflate").unwrap();
    let expand = |inflater: &mut Inflater, piece: &[u8]| {
        let mut out = Vec::new();
        inflater.inflate(piece, &mut out, 100, &mut { usize::MAX }).unwrap();
        inflater.finish(&mut out, 100).unwrap();
        out
    };
    let mut inflater = Inflater::new(parameters);
    assert_eq!(expand(&mut inflater, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]), b"Hello");
    // With the window of the message before.
    assert_eq!(expand(&mut inflater, &[0xf2, 0x00, 0x11, 0x00, 0x00]), b"Hello");
    // A block without compression, and one that is marked as the last.
    let plain = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    assert_eq!(expand(&mut Inflater::new(parameters), &plain), b"Hello");
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    assert_eq!(expand(&mut Inflater::new(parameters), &last), b"Hello");
}

#[test]
fn message_that_grows_beyond_its_limit_is_refused_before_it_is_made() {
    let parameters = DeflateParameters::negotiate(b"permessage-deflate").unwrap();
    let bomb = Deflater::new(parameters).deflate(&vec![0; 2_000_000], &mut CompressorPool::default()).unwrap();
    assert!(bomb.len() < 50_000);
    let mut out = Vec::new();
    assert_eq!(
        Inflater::new(parameters).inflate(&bomb, &mut out, 100_000, &mut { usize::MAX }),
        Err(WebSocketError::MessageTooBig)
    );
    assert!(out.capacity() < 1_000_000);
}

#[test]
fn damaged_message_is_refused() {
    let parameters = DeflateParameters::negotiate(b"permessage-deflate").unwrap();
    let refused = Inflater::new(parameters).inflate(&[0xff; 50], &mut Vec::new(), 1000, &mut { usize::MAX });
    assert!(matches!(refused, Err(WebSocketError::Protocol(_))));
}

#[test]
fn small_message_is_not_compressed() {
    let mut deflater = Deflater::new(DeflateParameters::negotiate(b"permessage-deflate").unwrap());
    assert_eq!(deflater.deflate(&[0; MIN_DEFLATED_BYTES - 1], &mut CompressorPool::default()), None);
}

// The window outlives the compressor: content that was sent before is sent as a reference.
#[test]
fn sessions_that_share_few_compressors_compress_as_well() {
    let parameters = DeflateParameters::negotiate(b"permessage-deflate").unwrap();
    let text = |number: usize, seed: u32| -> Vec<u8> {
        let words: Vec<_> = (0..60_u32).map(|at| (seed + at).wrapping_mul(2_654_435_761).to_string()).collect();
        format!("{number} {}", words.join(" ")).into_bytes()
    };
    let mut pool = CompressorPool::default();
    let mut sessions: Vec<_> =
        (0..3 * MAX_COMPRESSORS).map(|_| (Deflater::new(parameters), Inflater::new(parameters))).collect();
    let mut sizes = [0; 4];
    for (number, size) in sizes.iter_mut().enumerate() {
        for (seed, (deflater, inflater)) in (0..).map(|seed| seed * 1000).zip(&mut sessions) {
            let message = text(number, seed);
            let small = deflater.deflate(&message, &mut pool).unwrap();
            let mut out = Vec::new();
            inflater.inflate(&small, &mut out, 5000, &mut { usize::MAX }).unwrap();
            inflater.finish(&mut out, 5000).unwrap();
            assert_eq!(out, message);
            *size += small.len();
        }
    }
    assert_eq!(pool.idle.len(), MAX_COMPRESSORS);
    assert!(sizes[1..].iter().all(|size| size * 5 < sizes[0]), "{sizes:?}");
    assert!(sessions.iter().all(|(deflater, _)| deflater.window.capacity() <= 1 << WINDOW_BITS));
}

#[test]
fn state_between_messages_is_the_window_alone() {
    let parameters = DeflateParameters::negotiate(b"permessage-deflate; client_max_window_bits").unwrap();
    let (mut deflater, mut pool) = (Deflater::new(parameters), CompressorPool::default());
    let mut inflater = Inflater::new(parameters);
    for length in [200, 10_000, 300] {
        let message: Vec<u8> = (0..length).map(|at: u32| u8::try_from(at * at % 251).unwrap()).collect();
        let small = deflater.deflate(&message, &mut pool).unwrap();
        let mut out = Vec::new();
        inflater.inflate(&small, &mut out, 10_000, &mut { usize::MAX }).unwrap();
        assert_eq!(inflater.memory_bytes(), DECOMPRESSOR_BYTES);
        inflater.finish(&mut out, 10_000).unwrap();
        assert_eq!((out, inflater.memory_bytes()), (message, 0));
        assert!(inflater.decompress.is_none() && inflater.window.capacity() <= 1 << WINDOW_BITS);
    }
}

// RFC 7692 §7.1.1.1
#[test]
fn message_without_context_takeover_refers_to_no_other() {
    let parameters = DeflateParameters::negotiate(b"permessage-deflate; server_no_context_takeover").unwrap();
    let (mut deflater, mut pool) = (Deflater::new(parameters), CompressorPool::default());
    let message: Vec<u8> = (0..255).collect();
    let first = deflater.deflate(&message, &mut pool).unwrap();
    assert_eq!(deflater.deflate(&message, &mut pool).unwrap(), first);
    assert!(deflater.window.is_empty());
}

proptest! {
    #[test]
    fn messages_come_back_as_they_were(
        messages in prop::collection::vec(prop::collection::vec(0_u8..8, 0..5000), 1..6),
        server_no_context_takeover: bool,
        bits in 9_u8..=15,
        split in 1_usize..700,
    ) {
        let parameters = DeflateParameters { server_no_context_takeover, client_no_context_takeover: server_no_context_takeover, server_window_bits: bits, client_window_bits: Some(bits) };
        let (mut deflater, mut inflater) = (Deflater::new(parameters), Inflater::new(parameters));
        let mut pool = CompressorPool::default();
        for (number, message) in messages.into_iter().enumerate() {
            // Others use all compressors meanwhile, with other parameters.
            for other in 0..if number % 2 == 0 { 0 } else { MAX_COMPRESSORS } {
                let parameters = DeflateParameters { server_window_bits: if other % 2 == 0 { bits } else { 9 }, ..parameters };
                Deflater::new(parameters).deflate(&[7; MIN_DEFLATED_BYTES], &mut pool).unwrap();
            }
            let Some(small) = deflater.deflate(&message, &mut pool) else { continue };
            let mut out = Vec::new();
            for piece in small.chunks(split) {
                inflater.inflate(piece, &mut out, 5000, &mut { usize::MAX }).unwrap();
            }
            inflater.finish(&mut out, 5000).unwrap();
            prop_assert_eq!(out, message);
        }
    }

    #[test]
    fn arbitrary_bytes_stay_within_the_limit(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8)) {
        let mut inflater = Inflater::new(DeflateParameters::negotiate(b"permessage-deflate").unwrap());
        let mut out = Vec::new();
        for piece in pieces {
            if inflater.inflate(&piece, &mut out, 10_000, &mut { usize::MAX }).is_err() {
                break;
            }
            prop_assert!(out.len() <= 10_000);
        }
    }
}
