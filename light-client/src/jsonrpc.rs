//! JSON-RPC 2.0 as a client speaks it: calls, alone or in a batch, and their answers.

use std::borrow::Cow;
use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use thiserror::Error;

use crate::spec::complaint;
use crate::words;

/// A call: its method and its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Such as `eth_getProof`.
    pub method: &'static str,
    /// An array.
    pub params: Value,
}

/// What the endpoint says went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message} (code {code})")]
pub struct Complaint {
    /// As in the JSON-RPC specification, or the endpoint's own.
    pub code: i64,
    /// The endpoint's words, as [`words`] leaves them.
    pub message: String,
}

/// Why an answer is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Malformed {
    /// Not JSON, or not an object with `result` or `error`.
    #[error("not a JSON-RPC answer: {0}")]
    Syntax(String),
    /// Answers a call that was not asked.
    #[error("answers another call: id {0}")]
    Id(String),
    /// More or fewer answers than calls, or two to the same.
    #[error("{got} answers to {expected} calls")]
    Count {
        /// Calls.
        expected: usize,
        /// Answers; nobody counts further than one more than the calls.
        got: usize,
    },
    /// One error in place of a list of answers: it does not take batches, or not of this size.
    #[error("batch refused: {0}")]
    Batch(Complaint),
}

/// What came back for one call: JSON that nobody has looked at, or a complaint.
pub type Reply = Result<Box<RawValue>, Complaint>;

#[derive(Deserialize)]
struct Response<'a> {
    /// Lent by the body, however long it is.
    #[serde(default, borrow)]
    id: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "present")]
    result: Option<Box<RawValue>>,
    #[serde(default, borrow)]
    error: Option<Failure<'a>>,
}

#[derive(Deserialize)]
struct Failure<'a> {
    #[serde(default)]
    code: i64,
    #[serde(default, borrow)]
    message: Cow<'a, str>,
}

/// A `result` that is `null` is an answer, one that is not there is none.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

#[derive(Serialize)]
struct Request<'a> {
    jsonrpc: &'static str,
    id: usize,
    method: &'static str,
    params: &'a Value,
}

/// The body that asks one call.
#[must_use]
pub fn single(call: &Call) -> Vec<u8> {
    json!(request(0, call)).to_string().into_bytes()
}

/// The body that asks several calls; their ids are their positions.
#[must_use]
pub fn batch(calls: &[Call]) -> Vec<u8> {
    let requests: Vec<_> = calls.iter().enumerate().map(|(id, call)| request(id, call)).collect();
    json!(requests).to_string().into_bytes()
}

fn request(id: usize, call: &Call) -> Request<'_> {
    Request { jsonrpc: "2.0", id, method: call.method, params: &call.params }
}

/// What an answer to one call, whatever its id, says against it, unless it is the contract that says so: an error
/// with the data that the execution reverted with.
#[must_use]
pub fn complaint_without_revert(body: &[u8]) -> Option<Complaint> {
    #[derive(Deserialize)]
    struct Answer {
        error: Option<Value>,
    }
    let error = serde_json::from_slice::<Answer>(body).ok()?.error.filter(|error| !error.is_null())?;
    let data = &error["data"];
    // A few wrap it once more.
    let data = data.as_str().or_else(|| data["data"].as_str()).unwrap_or_default();
    let reverted = data.strip_prefix("0x").is_some_and(|hex| hex.len() >= 8);
    let message = words(error["message"].as_str().unwrap_or_default());
    (!reverted).then(|| Complaint { code: error["code"].as_i64().unwrap_or_default(), message })
}

/// Reads the answer to [`single`].
///
/// # Errors
/// [`Malformed::Syntax`], [`Malformed::Id`].
pub fn read_single(body: &[u8]) -> Result<Reply, Malformed> {
    let (id, reply) = read_object(body)?.split()?;
    // Some endpoints answer an error without an id, when they do not read as far.
    if number(id) == Some(0) || (id.is_none() && reply.is_err()) { Ok(reply) } else { Err(other_id(id)) }
}

/// Reads the answers to [`batch`], and puts them into the order of the calls.
///
/// # Errors
/// [`Malformed`].
pub fn read_batch(body: &[u8], calls: usize) -> Result<Vec<Reply>, Malformed> {
    if !is_list(body) {
        return match read_object(body)?.split()?.1 {
            Err(complaint) => Err(Malformed::Batch(complaint)),
            Ok(_) => Err(Malformed::Count { expected: calls, got: 1 }),
        };
    }
    let responses = read_list(body, calls)?;
    let got = responses.len();
    let mut replies: Vec<Option<Reply>> = (0..calls).map(|_| None).collect();
    for response in responses {
        let (id, reply) = response.split()?;
        let place = number(id).and_then(|id| replies.get_mut(id));
        *place.ok_or_else(|| other_id(id))? = Some(reply);
    }
    let complete: Option<Vec<_>> = replies.into_iter().collect();
    complete.filter(|_| got == calls).ok_or(Malformed::Count { expected: calls, got })
}

/// The answers of a list. A list that is too long is left at the first answer too many: sixteen megabytes of `{},` would be
/// hundreds of megabytes of answers.
fn read_list(body: &[u8], calls: usize) -> Result<Vec<Response<'_>>, Malformed> {
    let mut list = Vec::new();
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = json.deserialize_seq(AtMost { calls, list: &mut list });
    if list.len() > calls {
        return Err(Malformed::Count { expected: calls, got: list.len() });
    }
    read.and_then(|()| json.end()).map_err(|error| syntax(&error))?;
    Ok(list)
}

/// Collects answers, until there is one more than calls.
struct AtMost<'l, 'de> {
    calls: usize,
    list: &'l mut Vec<Response<'de>>,
}

impl<'de> Visitor<'de> for AtMost<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answers", self.calls)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut answers: A) -> Result<(), A::Error> {
        while self.list.len() <= self.calls
            && let Some(answer) = answers.next_element()?
        {
            self.list.push(answer);
        }
        Ok(())
    }
}

/// serde would read the fields of an object from a list as well, in their order.
fn read_object(body: &[u8]) -> Result<Response<'_>, Malformed> {
    if is_list(body) {
        return Err(Malformed::Syntax("a list where one answer belongs".into()));
    }
    serde_json::from_slice(body).map_err(|error| syntax(&error))
}

fn is_list(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"[")
}

impl<'a> Response<'a> {
    fn split(self) -> Result<(Option<&'a RawValue>, Reply), Malformed> {
        let reply = match (self.result, self.error) {
            (_, Some(error)) => Err(Complaint { code: error.code, message: words(&error.message) }),
            (Some(result), None) => Ok(result),
            (None, None) => return Err(Malformed::Syntax("neither result nor error".into())),
        };
        Ok((self.id, reply))
    }
}

fn number(id: Option<&RawValue>) -> Option<usize> {
    id?.get().parse().ok()
}

fn other_id(id: Option<&RawValue>) -> Malformed {
    Malformed::Id(words(id.map_or("null", RawValue::get)).chars().take(40).collect())
}

fn syntax(error: &serde_json::Error) -> Malformed {
    Malformed::Syntax(complaint(error))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(reply: &Reply) -> &str {
        reply.as_ref().unwrap().get()
    }

    #[test]
    fn batches_are_put_into_order() {
        let body = br#"[{"id":1,"result":"b"},{"id":0,"result":null}]"#;
        let replies = read_batch(body, 2).unwrap();
        assert_eq!((text(&replies[0]), text(&replies[1])), ("null", "\"b\""));
    }

    #[test]
    fn batches_that_do_not_answer_each_call_once_are_refused() {
        let count = |got| Malformed::Count { expected: 2, got };
        let refused = |body: &[u8]| read_batch(body, 2).unwrap_err();
        assert_eq!(refused(br#"[{"id":0,"result":1}]"#), count(1));
        assert_eq!(refused(br#"[{"id":0,"result":1},{"id":0,"result":1}]"#), count(2));
        assert_eq!(refused(br#"[{"id":0,"result":1},{"id":1,"result":1},{"id":1,"result":2}]"#), count(3));
        assert_eq!(refused(br#"[{"id":0,"result":1},{"id":2,"result":1}]"#), Malformed::Id("2".into()));
        assert_eq!(refused(br#"[{"id":0,"result":1},{"id":-1,"result":1}]"#), Malformed::Id("-1".into()));
        assert_eq!(refused(br#"{"id":0,"result":1}"#), count(1));
        let complaint = Complaint { code: -32600, message: "no batches".into() };
        assert_eq!(
            refused(br#"{"id":null,"error":{"code":-32600,"message":"no batches"}}"#),
            Malformed::Batch(complaint)
        );
    }

    #[test]
    fn a_list_without_end_is_left_at_the_first_answer_too_many() {
        let endless = format!("[{}", "{},".repeat(1_000_000));
        assert_eq!(
            read_batch(endless.as_bytes(), 2).unwrap_err(),
            Malformed::Count { expected: 2, got: 3 },
            "whoever read on would have met the end that is missing"
        );
        let long = format!(r#"[{{"id":[{}0],"result":1}}]"#, "0,".repeat(1_000_000));
        let list = read_list(long.as_bytes(), 1).unwrap();
        assert!(long.as_bytes().as_ptr_range().contains(&list[0].id.unwrap().get().as_ptr()), "copied");
        assert!(matches!(read_batch(long.as_bytes(), 1), Err(Malformed::Id(id)) if id.len() == 40));
        assert!(matches!(read_batch(br#"[{"id":0,"result":1}] more"#, 1), Err(Malformed::Syntax(_))));
    }

    #[test]
    fn an_answer_to_another_call_is_refused() {
        assert_eq!(read_single(br#"{"id":1,"result":1}"#).unwrap_err(), Malformed::Id("1".into()));
        assert_eq!(read_single(br#"{"result":1}"#).unwrap_err(), Malformed::Id("null".into()));
        assert!(matches!(read_single(br#"[0,"result"]"#).unwrap_err(), Malformed::Syntax(_)));
        assert!(matches!(read_single(br#"{"id":0}"#).unwrap_err(), Malformed::Syntax(_)));
        assert!(matches!(read_single(b"<html></html>").unwrap_err(), Malformed::Syntax(_)));
        assert!(read_single(br#"{"id":null,"error":{"message":"busy"}}"#).unwrap().is_err());
    }

    #[test]
    fn what_is_written_is_what_the_specification_asks_for() {
        let call = Call { method: "eth_getCode", params: json!(["0x00", "latest"]) };
        let one: Value = serde_json::from_slice(&single(&call)).unwrap();
        assert_eq!(
            one,
            json!({"jsonrpc": "2.0", "id": 0, "method": "eth_getCode", "params": ["0x00", "latest"]})
        );
        let two: Value = serde_json::from_slice(&batch(&[call.clone(), call])).unwrap();
        assert_eq!((two[0]["id"].as_u64(), two[1]["id"].as_u64()), (Some(0), Some(1)));
    }

    #[test]
    fn words_of_an_endpoint_are_cut() {
        let body = json!({"id": 0, "error": {"code": 1, "message": "x".repeat(10_000)}}).to_string();
        assert_eq!(read_single(body.as_bytes()).unwrap().unwrap_err().message.len(), crate::MAX_WORDS);
    }

    proptest! {
        #[test]
        fn answers_in_any_order_meet_their_calls(ids in (0..40usize).prop_flat_map(|calls| Just((0..calls).collect::<Vec<_>>()).prop_shuffle())) {
            let body = json!(ids.iter().map(|id| json!({"id": id, "result": id})).collect::<Vec<_>>()).to_string();
            let replies = read_batch(body.as_bytes(), ids.len()).unwrap();
            let results: Vec<usize> = replies.iter().map(|reply| text(reply).parse().unwrap()).collect();
            prop_assert_eq!(results, (0..ids.len()).collect::<Vec<_>>());
            prop_assert!(read_batch(body.as_bytes(), ids.len() + 1).is_err());
        }

        #[test]
        fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..64), calls in 0..4usize) {
            let _ = read_single(&body);
            if let Ok(replies) = read_batch(&body, calls) {
                prop_assert_eq!(replies.len(), calls);
            }
        }
    }
}
