//! The answer to one question, as far as the names on the network give it. Pure.

use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::names::Names;

/// For how many seconds a client may remember an answer: a container may have another address when it is started again.
const TTL: u32 = 5;
/// The length of a header (RFC 1035, 4.1.1).
const HEADER: usize = 12;

/// What is to be done with a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is answered with this message.
    Reply(Vec<u8>),
    /// Another server may know the answer.
    PassOn,
    /// Nobody asks: it is no question.
    Nothing,
}

/// Answers a question. `most` is the longest reply in bytes that the way back takes, unless the question names another.
pub(super) fn answer(question: &[u8], names: &dyn Names, most: usize) -> Answer {
    let asked = match Message::from_vec(question) {
        Ok(asked) if asked.metadata.message_type == MessageType::Query => asked,
        Ok(_) => return Answer::Nothing,
        Err(_) => return malformed(question),
    };
    if asked.metadata.op_code != OpCode::Query {
        return reply(&asked, ResponseCode::NotImp, Vec::new(), most);
    }
    let [query] = asked.queries.as_slice() else {
        return reply(&asked, ResponseCode::FormErr, Vec::new(), most);
    };
    if query.query_class() != DNSClass::IN {
        return Answer::PassOn;
    }
    match known(query, names) {
        Some(records) => reply(&asked, ResponseCode::NoError, records, most),
        None if !names.leads_on() => reply(&asked, ResponseCode::NXDomain, Vec::new(), most),
        None => Answer::PassOn,
    }
}

/// The reply that says that no server has answered.
pub(super) fn failed(question: &[u8]) -> Option<Vec<u8>> {
    let asked = Message::from_vec(question).ok()?;
    match reply(&asked, ResponseCode::ServFail, Vec::new(), usize::MAX) {
        Answer::Reply(reply) => Some(reply),
        Answer::PassOn | Answer::Nothing => None,
    }
}

/// The records that the names on the network give; `None` if they say nothing about the name. A name that is there and has none
/// of the kind that is asked for has no records.
fn known(query: &Query, names: &dyn Names) -> Option<Vec<Record>> {
    let name = query.name();
    let record = |data| Record::from_rdata(name.clone(), TTL, data);
    if query.query_type() == RecordType::PTR {
        let asked = name.parse_arpa_name().ok()?;
        let is_whole = asked.prefix_len() == asked.max_prefix_len();
        let found = names.name_of(asked.addr()).filter(|_| is_whole)?;
        let found = Name::from_ascii(format!("{found}.")).ok()?;
        return Some(vec![record(RData::PTR(PTR(found)))]);
    }
    let text = name.to_utf8().to_lowercase();
    let addresses = names.addresses(text.trim_end_matches('.'))?;
    let records = addresses.into_iter().filter_map(|address| {
        let (kind, data) = match address {
            IpAddr::V4(address) => (RecordType::A, RData::A(A(address))),
            IpAddr::V6(address) => (RecordType::AAAA, RData::AAAA(AAAA(address))),
        };
        let is_asked = query.query_type() == kind || query.query_type() == RecordType::ANY;
        is_asked.then(|| record(data))
    });
    Some(records.collect())
}

fn reply(asked: &Message, code: ResponseCode, answers: Vec<Record>, most: usize) -> Answer {
    let mut reply = Message::response(asked.metadata.id, asked.metadata.op_code);
    reply.metadata = Metadata::response_from_request(&asked.metadata);
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = code;
    reply.add_queries(asked.queries.iter().cloned());
    reply.add_answers(answers);
    if let Some(edns) = &asked.edns {
        let mut own = hickory_proto::op::Edns::new();
        own.set_max_payload(edns.max_payload());
        reply.set_edns(own);
    }
    let most = match &asked.edns {
        Some(edns) => most.max(edns.max_payload().into()),
        None => most,
    };
    match reply.to_vec() {
        Ok(bytes) if bytes.len() <= most => Answer::Reply(bytes),
        Ok(_) => reply.truncate().to_vec().map_or(Answer::Nothing, Answer::Reply),
        Err(_) => Answer::Nothing,
    }
}

/// The reply to bytes that are no message, if they are long enough to have an id.
fn malformed(question: &[u8]) -> Answer {
    let (Some([one, two, flags]), true) = (question.first_chunk::<3>(), question.len() >= HEADER) else {
        return Answer::Nothing;
    };
    // What looks like a reply gets none, or two servers would go on for ever.
    if flags & 0x80 != 0 {
        return Answer::Nothing;
    }
    let id = u16::from_be_bytes([*one, *two]);
    let reply = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
    reply.to_vec().map_or(Answer::Nothing, Answer::Reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Two {
        leads_on: bool,
    }

    impl Names for Two {
        fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
            match name {
                "web" => Some(vec![[10, 0, 0, 2].into(), [10, 0, 0, 3].into()]),
                "many" => Some((0..100).map(|n| [10, 0, 1, n].into()).collect()),
                _ => None,
            }
        }

        fn name_of(&self, address: IpAddr) -> Option<String> {
            (address == IpAddr::from([10, 0, 0, 2])).then(|| "my_web-1.front".to_owned())
        }

        fn leads_on(&self) -> bool {
            self.leads_on
        }

        fn servers(&self) -> Vec<IpAddr> {
            Vec::new()
        }
    }

    fn question(name: &str, kind: RecordType) -> Vec<u8> {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_utf8(name).unwrap(), kind));
        message.to_vec().unwrap()
    }

    fn replied(question: &[u8], leads_on: bool) -> Message {
        match answer(question, &Two { leads_on }, 512) {
            Answer::Reply(bytes) => Message::from_vec(&bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_name_on_the_network_is_answered_whatever_its_case_and_others_are_passed_on() {
        let reply = replied(&question("WEB.", RecordType::A), true);
        let meta = reply.metadata;
        assert_eq!((meta.id, meta.response_code), (7, ResponseCode::NoError));
        assert!(meta.recursion_desired && meta.recursion_available);
        let addresses: Vec<_> = reply
            .answers
            .iter()
            .map(|record| record.data.to_string())
            .collect();
        assert_eq!(addresses, ["10.0.0.2", "10.0.0.3"]);
        // It is there, and has no such record: that is not the same as not being there.
        for kind in [RecordType::AAAA, RecordType::MX, RecordType::HTTPS] {
            let reply = replied(&question("web.", kind), true);
            assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
            assert!(reply.answers.is_empty());
        }
        let other = question("example.org.", RecordType::A);
        assert_eq!(answer(&other, &Two { leads_on: true }, 512), Answer::PassOn);
        let reply = replied(&other, false);
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    }

    #[test]
    fn an_address_is_answered_with_the_name_that_has_it() {
        let reply = replied(&question("2.0.0.10.in-addr.arpa.", RecordType::PTR), true);
        assert_eq!(reply.answers[0].data.to_string(), "my_web-1.front.");
        for unknown in ["9.0.0.10.in-addr.arpa.", "0.0.10.in-addr.arpa.", "web."] {
            let unknown = question(unknown, RecordType::PTR);
            assert_eq!(answer(&unknown, &Two { leads_on: true }, 512), Answer::PassOn);
        }
    }

    #[test]
    fn an_answer_that_is_too_long_says_so() {
        let reply = replied(&question("many.", RecordType::A), true);
        assert!(reply.metadata.truncation && reply.answers.is_empty());
        let whole = answer(&question("many.", RecordType::A), &Two { leads_on: true }, 65_535);
        let Answer::Reply(bytes) = whole else {
            panic!("{whole:?}")
        };
        assert_eq!(Message::from_vec(&bytes).unwrap().answers.len(), 100);
    }

    #[test]
    fn what_is_no_question_is_refused_or_gets_no_reply() {
        let names = Two { leads_on: true };
        let mut reply = question("web.", RecordType::A);
        reply[2] |= 0x80;
        assert_eq!(answer(&reply, &names, 512), Answer::Nothing);
        for short in [&[][..], &[1, 2, 3], &[0x80; 40]] {
            assert_eq!(answer(short, &names, 512), Answer::Nothing);
        }
        let mut cut = question("web.", RecordType::A);
        cut.truncate(15);
        let Answer::Reply(bytes) = answer(&cut, &names, 512) else {
            panic!("a reply");
        };
        assert_eq!(
            Message::from_vec(&bytes).unwrap().metadata.response_code,
            ResponseCode::FormErr
        );
        // A name that points to itself.
        let mut loops = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        loops.extend([0xc0, 12, 0, 1, 0, 1]);
        assert!(matches!(answer(&loops, &names, 512), Answer::Reply(_)));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
            drop(answer(&bytes, &Two { leads_on: true }, 512));
            drop(failed(&bytes));
        }
    }
}
