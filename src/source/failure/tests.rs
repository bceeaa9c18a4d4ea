//! What each code and each kind of failure means, in every phase.

use super::*;
use crate::source::fault::Answer;

fn said(code: i32, message: &str, is_resumable: bool) -> Fault {
    let answer = Answer { code, message: message.to_owned(), is_resumable };
    Fault { kind: FaultKind::Server, answer: Some(answer), text: format!("{message} ({code})") }
}

fn of(kind: FaultKind) -> Fault {
    Fault { kind, answer: None, text: "text".to_owned() }
}

const PHASES: [Phase; 4] = [Phase::Opening, Phase::Reopening, Phase::Streaming, Phase::Snapshot];
/// Of a server that sets labels, of one that does not, and of one that is not known.
const NEW: Option<i32> = Some(WIRE_VERSION_4_4);
const OLD: Option<i32> = Some(WIRE_VERSION_4_4 - 1);

/// The codes from 0 on, and some that are far away, that are resumable.
fn resumable(phase: Phase, version: Option<i32>, label: bool) -> Vec<i32> {
    let all = (0..14_000).chain([20_000, 40_324, 7_182_500]);
    all.filter(|code| is_resumable(&said(*code, "", label), phase, version)).collect()
}

#[test]
fn the_codes_of_each_phase_are_those_of_the_specifications() {
    // "Retryable Error" of the retryable reads specification, and three of ours.
    let reads =
        [6, 7, 89, 91, 134, 136, 189, 211, 262, 9001, 10107, 11600, 11601, 11602, 13435, 13436];
    for version in [NEW, OLD, None] {
        assert_eq!(resumable(Phase::Opening, version, false), reads);
        assert_eq!(resumable(Phase::Reopening, version, false), reads);
        let documents = Vec::from_iter(reads.into_iter().chain([43, 175, 237]));
        let mut found = resumable(Phase::Snapshot, version, false);
        found.sort_by_key(|code| documents.iter().position(|known| known == code));
        assert_eq!(found, documents);
    }
    // "Resumable Error" of the change streams specification, and ours.
    let labelled = [43, 91, 136, 211, 237, 11600, 11601];
    assert_eq!(resumable(Phase::Streaming, NEW, false), labelled);
    assert_eq!(resumable(Phase::Streaming, None, false), labelled);
    let unlabelled = [
        6, 7, 43, 63, 89, 91, 133, 136, 150, 189, 211, 234, 237, 262, 9001, 10107, 11600, 11601,
        11602, 13388, 13435, 13436,
    ];
    assert_eq!(resumable(Phase::Streaming, OLD, false), unlabelled);
    // With a label everything is, but what says itself that it is for good.
    let with_label = resumable(Phase::Streaming, NEW, true);
    let missing = (0..14_000).chain([7_182_500]).filter(|code| !with_label.contains(code));
    assert_eq!(missing.collect::<Vec<_>>(), [280, 286, 10334, 13548, 7_182_500]);
    assert_eq!(resumable(Phase::Reopening, NEW, true), reads, "an opening has no labels");
}

#[test]
fn a_read_that_is_too_early_for_its_server_is_tried_again() {
    let early = said(72, "afterClusterTime value must not be greater than the current time", false);
    let is = |phase| is_resumable(&early, phase, NEW);
    assert_eq!(PHASES.map(is), [false, false, false, true]);
}

#[test]
fn what_is_no_servers_answer_is_resumable_by_its_kind() {
    let is = |kind: FaultKind| PHASES.map(|phase| is_resumable(&of(kind.clone()), phase, NEW));
    assert_eq!(is(FaultKind::Network), [true; 4]);
    assert_eq!(is(FaultKind::ConnectionsGivenUp), [true; 4]);
    assert_eq!(is(FaultKind::Unreachable { is_final: false }), [true; 4]);
    assert_eq!(is(FaultKind::Unreachable { is_final: true }), [false, true, true, true]);
    assert_eq!(is(FaultKind::Argument), [false; 4]);
    assert_eq!(is(FaultKind::Other), [false; 4]);
    assert_eq!(is(FaultKind::Login(None)), [false; 4]);
    assert_eq!(is(FaultKind::Login(Some(Box::new(said(91, "", false))))), [true; 4]);
    assert_eq!(is(FaultKind::Login(Some(Box::new(said(18, "", false))))), [false; 4]);
}

#[test]
fn a_refused_user_is_told_from_a_server_that_goes() {
    let login = |cause: Option<Fault>| of(FaultKind::Login(cause.map(Box::new)));
    for refused in [
        login(None),
        login(Some(said(18, "", false))),
        said(13, "", false),
        said(18, "", false),
        said(8000, "bad auth : authentication failed", false),
    ] {
        assert!(is_refused(&refused), "{refused:?}");
    }
    for other in [
        login(Some(said(91, "", false))),
        login(Some(of(FaultKind::Network))),
        said(8000, "something else", false),
        said(91, "", false),
        of(FaultKind::Network),
    ] {
        assert!(!is_refused(&other), "{other:?}");
    }
    assert!(is_logged_out(&said(13, "command find requires authentication", false)));
    assert!(!is_logged_out(&said(13, "not authorized on shop", false)));
    assert!(!is_logged_out(&said(18, "requires authentication", false)));
    let mut other = said(13, "requires authentication", false);
    other.kind = FaultKind::Other;
    assert!(!is_logged_out(&other));
    let reached = [FaultKind::ConnectionsGivenUp, FaultKind::Login(None), FaultKind::Server];
    assert!(reached.into_iter().all(|kind| !is_unreachable(&of(kind))));
    assert!(is_unreachable(&of(FaultKind::Network)));
    assert!(is_unreachable(&of(FaultKind::Unreachable { is_final: false })));
}

#[test]
fn what_a_code_means_is_known_of_that_code_alone() {
    let meant = |is: fn(&Fault) -> bool, code| is(&said(code, "", false));
    for code in [10334, 13548, 7_182_500] {
        assert!(meant(is_too_large, code));
    }
    assert!(!meant(is_too_large, 7_182_504) && meant(is_token_without_parts, 7_182_504));
    assert!(!meant(is_token_without_parts, 7_182_500));
    assert!(meant(is_unknown_stage, 40_324) && !meant(is_unknown_stage, 40_325));
    assert!(meant(is_token_not_found, 280) && meant(is_token_not_found, 40_646));
    assert!(!meant(is_token_not_found, 286));
    assert!(!is_token_not_found(&said(280, "the _id field was removed", false)));
    let mut other = said(280, "", false);
    other.kind = FaultKind::Other;
    assert!(!is_token_not_found(&other));
}

#[test]
fn an_error_has_its_kind_its_advice_and_whether_it_passes() {
    let uri = Uri::parse("mongodb://user:secret@db1.example/").unwrap();
    let from = Some(Timestamp { time: 1_700_000_000, increment: 1 });
    let shown = |fault: Fault| error(&fault, &uri, "go on", from);
    let unreachable = |is_final| of(FaultKind::Unreachable { is_final });
    for (fault, kind, part, is_retriable) in [
        (said(13, "no", false), ErrorKind::Auth, "find and changeStream", false),
        (said(18, "no", false), ErrorKind::Auth, "authSource", false),
        (of(FaultKind::Login(None)), ErrorKind::Auth, "authSource", false),
        (said(40_573, "no", false), ErrorKind::Server, "replica set or a sharded cluster", false),
        (said(10334, "no", false), ErrorKind::Oversized, "larger than the 16 MB", false),
        (said(47, "no", false), ErrorKind::Server, "changeStreamPreAndPostImages", false),
        (said(280, "the _id field", false), ErrorKind::Server, "keep it", false),
        (
            said(286, "no", false),
            ErrorKind::HistoryLost,
            "from 2023-11-14T22:13:20Z, unix time 1700000000",
            false,
        ),
        (said(280, "no", false), ErrorKind::HistoryLost, "the oplog no longer reaches", false),
        (said(91, "no", false), ErrorKind::Server, "(91)", true),
        (said(1, "no", false), ErrorKind::Server, "(1)", false),
        (of(FaultKind::Network), ErrorKind::Connect, "check that the servers run", true),
        (of(FaultKind::ConnectionsGivenUp), ErrorKind::Connect, "check that the servers run", true),
        (unreachable(false), ErrorKind::Connect, "text", true),
        (unreachable(true), ErrorKind::Connect, "text", false),
        (of(FaultKind::Argument), ErrorKind::Argument, "text", false),
        (of(FaultKind::Other), ErrorKind::Server, "text", false),
    ] {
        let code = fault.code().unwrap_or(0);
        assert_eq!(super::kind(&fault), kind, "{fault:?}");
        let error = shown(fault);
        let text = error.to_string();
        assert!(text.starts_with("cannot go on on mongodb://db1.example: "), "{text}");
        assert!(text.contains(part) && !text.contains("secret"), "{text}");
        assert_eq!((error.kind(), error.server_code()), (kind, code), "{text}");
        assert_eq!(error.is_retriable(), is_retriable, "{text}");
        assert_eq!(text.contains("unix time"), kind == ErrorKind::HistoryLost, "{text}");
    }
    // What ended a login that the user did not end.
    let login = of(FaultKind::Login(Some(Box::new(said(91, "bye", false)))));
    assert_eq!((text_of(&login), shown(login.clone()).kind()), ("bye (91)", ErrorKind::Server));
    let refused = of(FaultKind::Login(Some(Box::new(said(18, "bye", false)))));
    assert_eq!(text_of(&refused), "text");
}

#[test]
fn who_gives_a_wrong_token_is_told_which_option_to_look_at() {
    let start = |name| Position::Start(Some((name, bson::Bson::Null)));
    let advice = |code, name| token_advice(&said(code, "", false), &start(name)).unwrap_or("none");
    assert!(advice(260, "resumeAfter").contains("give it to start_after"));
    for code in BAD_TOKEN {
        assert!(advice(code, "startAfter").contains("the option start_after has something else"));
    }
    assert!(advice(9, "resumeAfter").contains("the option resume_after has something else"));
    assert_eq!(advice(91, "startAfter"), "none");
    assert_eq!(advice(9, "startAtOperationTime"), "none");
    let saved = Position::After(crate::raw::token::Token::from(&[][..]));
    assert_eq!(token_advice(&said(9, "", false), &saved), None);
}

#[test]
fn an_old_server_is_named_for_options_that_it_does_not_know() {
    let mut options = Options::new();
    let advice = |options: &Options, code, version| {
        missing_feature(&said(code, "", false), options, version).is_some()
    };
    let old = Some(WIRE_VERSION_6_0 - 1);
    assert!(!advice(&options, 40_415, old), "no such option is set");
    options.set("show_expanded_events", "true").unwrap();
    for code in UNKNOWN_OPTION {
        assert!(advice(&options, code, old));
    }
    assert!(!advice(&options, 91, old));
    assert!(!advice(&options, 40_415, Some(WIRE_VERSION_6_0)));
    assert!(!advice(&options, 40_415, None));
}

#[test]
fn an_event_that_is_too_large_comes_with_what_else_can_be_done() {
    for (policy, begins, names) in [
        (OnOversized::Split, "; this server cannot split it", "on_oversized=skip leaves it out"),
        (OnOversized::Fail, "; on_oversized=split has it sent in parts", "on_oversized=skip"),
        (OnOversized::Skip, "; a message with the operation oversized", "$project"),
    ] {
        let advice = oversized_advice(policy);
        assert!(advice.starts_with(begins) && advice.contains(names), "{advice}");
    }
}
