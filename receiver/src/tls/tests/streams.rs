//! Records after the handshake: key updates, renegotiation, alerts, the end.

use std::io::{Read, Write};

use rustls::version::{TLS12, TLS13};

use super::peer::{CREDS, Pair, client, pair_with_answers, record, sealed_pair, server};
use crate::tls::record::{ContentType, RecordHeader};
use crate::tls::{Opened, TlsError, TlsStream};

/// Opens one whole record; its plaintext.
fn open(stream: &mut TlsStream, mut record: Vec<u8>) -> Result<Option<Vec<u8>>, TlsError> {
    Ok(match stream.open(&mut record)? {
        Opened::Record { plain, bytes } => {
            assert_eq!(bytes, record.len());
            Some(record[plain].to_vec())
        }
        Opened::Closed => None,
        Opened::Partial { .. } => panic!("a whole record"),
    })
}

#[test]
fn keys_change_as_often_as_the_client_likes_and_both_ways() {
    let mut pair = Pair::new(&server(CREDS.path(), None, None), client(CREDS.path(), &[&TLS13]));
    let mut stream = pair.shake().0.unwrap();
    let mut read = vec![0; 1 << 16];
    for round in 0..100u8 {
        // rustls asks the other side for new keys, too.
        pair.client.refresh_traffic_keys().unwrap();
        pair.client.writer().write_all(&[round]).unwrap();
        pair.go_on().unwrap();
        let have = nix::unistd::read(&pair.ours, &mut read).unwrap();
        let mut at = 0;
        let mut got = Vec::new();
        while at < have {
            let Opened::Record { plain, bytes } = stream.open(&mut read[at..have]).unwrap() else {
                panic!("whole records")
            };
            got.extend_from_slice(&read[at..][plain]);
            at += bytes;
        }
        assert_eq!(got, [round]);
        assert!(stream.owes());
        stream.pay(&pair.ours);
        assert!(!stream.owes());
        let mut sealed = Vec::new();
        stream.seal(&[round, round], &mut sealed);
        nix::unistd::write(&pair.ours, &sealed).unwrap();
        pair.go_on().unwrap();
        let mut reply = [0; 2];
        pair.client.reader().read_exact(&mut reply).unwrap();
        assert_eq!(reply, [round, round]);
    }
}

#[test]
fn key_updates_without_end_are_refused() {
    let (mut stream, mut seals) = sealed_pair(&TLS13);
    let empty = (0..32).map(|_| record(&mut seals, ContentType::DATA, &[])).collect::<Vec<_>>();
    for one in empty {
        assert_eq!(open(&mut stream, one), Ok(Some(vec![])));
    }
    let data = record(&mut seals, ContentType::DATA, b"x");
    assert_eq!(open(&mut stream, data), Ok(Some(b"x".to_vec())), "data makes good for it");
    for _ in 0..32 {
        open(&mut stream, record(&mut seals, ContentType::DATA, &[])).unwrap();
    }
    let more = record(&mut seals, ContentType::DATA, &[]);
    assert_eq!(open(&mut stream, more), Err(TlsError::Quiet(33)));
}

#[test]
fn a_renegotiation_is_declined_and_data_goes_on() {
    let (mut stream, mut opens, mut seals) = pair_with_answers(&TLS12);
    let hello = record(&mut seals, ContentType::HANDSHAKE, &[1, 0, 0, 1, 0]);
    assert_eq!(open(&mut stream, hello), Ok(Some(vec![])));
    assert!(stream.owes());
    let mut answers = Vec::new();
    stream.seal(b"reply", &mut answers);
    let header = RecordHeader::parse(&answers).unwrap().unwrap();
    let (content, plain) = opens.open(header, &mut answers[..header.bytes]).unwrap();
    assert_eq!((content, &answers[plain]), (ContentType::ALERT, &[1, 100][..]));
    let data = record(&mut seals, ContentType::DATA, b"on");
    assert_eq!(open(&mut stream, data), Ok(Some(b"on".to_vec())));
}

#[test]
fn messages_and_alerts_at_the_wrong_time_end_the_connection() {
    for (version, content, plain, wanted) in [
        (&TLS13, ContentType::HANDSHAKE, &[1, 0, 0, 0][..], TlsError::UnexpectedMessage(1)),
        (&TLS13, ContentType::HANDSHAKE, &[24, 0, 0, 1, 2], TlsError::UnexpectedMessage(24)),
        (&TLS13, ContentType::HANDSHAKE, &[24, 0, 0, 1, 0, 24], TlsError::UnexpectedMessage(24)),
        (&TLS13, ContentType::HANDSHAKE, &[], TlsError::UnexpectedMessage(0)),
        (&TLS13, ContentType::CHANGE_CIPHER_SPEC, &[1], TlsError::UnknownRecord(20)),
        (&TLS13, ContentType(99), &[1], TlsError::UnknownRecord(99)),
        (&TLS13, ContentType::ALERT, &[2], TlsError::NoContent(1)),
        (&TLS13, ContentType::ALERT, &[2, 20], TlsError::Alert("BadRecordMac".into())),
        (&TLS12, ContentType::HANDSHAKE, &[24, 0, 0, 1, 0], TlsError::UnexpectedMessage(24)),
        (&TLS12, ContentType::CHANGE_CIPHER_SPEC, &[1], TlsError::UnknownRecord(20)),
        (&TLS12, ContentType::ALERT, &[2, 80], TlsError::Alert("InternalError".into())),
    ] {
        let (mut stream, mut seals) = sealed_pair(version);
        assert_eq!(open(&mut stream, record(&mut seals, content, plain)), Err(wanted));
    }
}

#[test]
fn warnings_are_borne_and_close_notify_is_the_end() {
    for (version, warning) in [(&TLS13, 90), (&TLS12, 90), (&TLS12, 112)] {
        let (mut stream, mut seals) = sealed_pair(version);
        let warned = open(&mut stream, record(&mut seals, ContentType::ALERT, &[1, warning]));
        assert_eq!(warned, Ok(Some(vec![])));
        assert_eq!(open(&mut stream, record(&mut seals, ContentType::ALERT, &[1, 0])), Ok(None));
        assert!(stream.is_closed());
        assert_eq!(open(&mut stream, b"anything".to_vec()), Ok(None));
    }
}

#[test]
fn a_record_in_the_clear_is_none_after_the_handshake() {
    for version in [&TLS13, &TLS12] {
        let (mut stream, _) = sealed_pair(version);
        let alert = [21, 3, 3, 0, 2, 2, 40].to_vec();
        assert!(open(&mut stream, alert).is_err());
    }
}
