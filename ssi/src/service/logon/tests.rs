use super::*;
use crate::name::MEMBERS_MAX;

/// Two members, of which this is the first.
fn view(mode: Mode) -> View {
    let me = Slot::new(1).unwrap();
    let mut states = [MemberState::Down; MEMBERS_MAX as usize];
    states[..2].fill(MemberState::Joined);
    View { me, mode, states, reached: [false, true, false, false] }
}

fn ask(logon: &mut Logon, mode: Mode, request: &LogonRequest) -> Vec<LogonAnswer> {
    let mut out = Vec::new();
    logon.request(&view(mode), 1, &request.encode(), &mut out);
    answers(&out)
}

fn answers(out: &[Output]) -> Vec<LogonAnswer> {
    let answer = |output: &Output| match output {
        Output::Answer { body, .. } => Some(LogonAnswer::decode(body).unwrap()),
        Output::Send { .. } => None,
    };
    out.iter().filter_map(answer).collect()
}

#[test]
fn users_of_both_kinds_wait_while_the_cluster_changes_and_are_refused_while_it_is_safe() {
    let user = UserId::new("SOMEBODY").unwrap();
    for kind in [UserKind::Single, UserKind::Multi] {
        let mut logon = Logon::new();
        let on = LogonRequest::On(user, kind);
        let safe = || LogonAnswer::Refused(LogonRefusal::Safe);
        assert_eq!(ask(&mut logon, Mode::Safe, &on), [safe()]);
        assert_eq!(ask(&mut logon, Mode::InFlux, &on), []);
        assert_eq!(logon.here().count(), 0);
        let mut out = Vec::new();
        logon.member_changed(&view(Mode::Safe), &mut out);
        assert_eq!(answers(&out), [safe()]);
    }
    let mut logon = Logon::new();
    ask(&mut logon, Mode::InFlux, &LogonRequest::On(user, UserKind::Multi));
    let mut out = Vec::new();
    logon.prepare_for_stable(&view(Mode::Stable), &mut out);
    assert_eq!(answers(&out), [LogonAnswer::Granted]);
}

#[test]
fn a_user_whose_kind_changes_while_it_is_on_is_still_free_for_all_once_it_is_off() {
    let user = UserId::new("SOMEBODY").unwrap();
    let mut logon = Logon { mine: [(user, UserKind::Single)].into(), ..Logon::default() };
    let again = ask(&mut logon, Mode::Stable, &LogonRequest::On(user, UserKind::Multi));
    assert_eq!(again, [LogonAnswer::Refused(LogonRefusal::LoggedOn(view(Mode::Stable).me))]);
    let mut out = Vec::new();
    logon.request(&view(Mode::Stable), 2, &LogonRequest::Off(user).encode(), &mut out);
    let free = encode(&PeerMessage::Free(user));
    assert!(out.contains(&Output::Send { to: Slot::new(2).unwrap(), body: free }), "{out:?}");
}

fn message(logon: &mut Logon, message: &PeerMessage) -> Vec<Output> {
    let mut out = Vec::new();
    logon.message(&view(Mode::Stable), Slot::new(2).unwrap(), &encode(message), &mut out);
    out
}

#[test]
fn a_user_that_is_on_elsewhere_is_logged_on_as_no_other_kind_whatever_the_directory_says() {
    let (user, there) = (UserId::new("SOMEBODY").unwrap(), Slot::new(2).unwrap());
    let refused = [LogonAnswer::Refused(LogonRefusal::LoggedOn(there))];
    // It is on there as a single-configuration user, or about to be; here it is a multiconfiguration user by now.
    for has in [PeerMessage::Have(user), PeerMessage::Ask(user, 7)] {
        let mut logon = Logon::new();
        message(&mut logon, &has);
        assert_eq!(ask(&mut logon, Mode::Stable, &LogonRequest::On(user, UserKind::Multi)), refused);
        message(&mut logon, &PeerMessage::Free(user));
        let granted = [LogonAnswer::Granted];
        assert_eq!(ask(&mut logon, Mode::Stable, &LogonRequest::On(user, UserKind::Multi)), granted);
        // And the other way round: an instance here, and it is to be a single-configuration user there.
        let out = message(&mut logon, &PeerMessage::Ask(user, 8));
        let no = encode(&PeerMessage::No(user, 8, view(Mode::Stable).me));
        assert_eq!(out, [Output::Send { to: there, body: no }]);
    }
    // Two instances of a multiconfiguration user are in nobody's way.
    let mut logon = Logon::new();
    ask(&mut logon, Mode::Stable, &LogonRequest::On(user, UserKind::Multi));
    assert_eq!(logon.check_join(there, &Logon::new().state()), Ok(()));
    let single = Logon { mine: [(user, UserKind::Single)].into(), ..Logon::default() };
    assert!(logon.check_join(there, &single.state()).is_err());
}

#[test]
fn a_request_is_answered_in_the_end_whether_it_is_held_or_nobody_says_yes() {
    for mode in [Mode::InFlux, Mode::Stable] {
        let mut logon = Logon::new();
        let user = UserId::new("SOMEBODY").unwrap();
        assert_eq!(ask(&mut logon, mode, &LogonRequest::On(user, UserKind::Single)), []);
        let mut out = Vec::new();
        let beats = (0..).find(|_| {
            logon.beat(&view(mode), &mut out);
            !answers(&out).is_empty()
        });
        assert_eq!(beats, Some(WAIT_BEATS_MAX));
        assert_eq!(answers(&out), [LogonAnswer::Refused(LogonRefusal::Waited(WAIT_BEATS_MAX))]);
        assert_eq!(logon, Logon { attempts_made: logon.attempts_made, ..Logon::default() });
    }
}

#[test]
fn a_request_that_nobody_waits_for_is_forgotten_and_a_grant_that_comes_too_late_is_given_back() {
    let user = UserId::new("SOMEBODY").unwrap();
    let on = LogonRequest::On(user, UserKind::Single);
    for mode in [Mode::InFlux, Mode::Stable] {
        let mut logon = Logon::new();
        ask(&mut logon, mode, &on);
        let mut out = Vec::new();
        logon.withdraw(&view(mode), 1, &mut out);
        assert_eq!(answers(&out), []);
        assert_eq!(message(&mut logon, &PeerMessage::Yes(user, 1)), []);
        assert_eq!(logon.here().count(), 0);
    }
    let mut logon = Logon::new();
    ask(&mut logon, Mode::Stable, &on);
    let granted = answers(&message(&mut logon, &PeerMessage::Yes(user, 1)));
    assert_eq!(granted, [LogonAnswer::Granted]);
    let mut out = Vec::new();
    logon.unclaimed(&view(Mode::Stable), &on.encode(), &encode(&granted[0]), &mut out);
    let free = encode(&PeerMessage::Free(user));
    assert_eq!(
        (logon.here().count(), out),
        (0, vec![Output::Send { to: Slot::new(2).unwrap(), body: free }])
    );
}
