//! LOGON, XAUTOLOG, LOGOFF, FORCE.

use super::words::Words;
use super::{Classes, Cp, Issuer, Outcome, PATIENCE, Refusal, Response, at};
use crate::name::{Slot, UserId};
use crate::node::User;
use crate::service::{LOGON, LogonAnswer, LogonRefusal, LogonRequest};

pub(super) fn xautolog(cp: &Cp, issuer: &Issuer, words: &mut Words<'_>) -> Outcome {
    let user: UserId = words.value("a user id")?;
    words.end()?;
    let entry = find(cp, user)?;
    if !issuer.classes.meet(Classes::of("AB")) && !cp.users.may_autolog(user, issuer.user) {
        let text = format!(
            "User {user} cannot be autologged by {}: its AUTOLOG statement does not name it",
            issuer.user
        );
        return Err(Refusal::plain(text));
    }
    if !entry.may_run {
        return Err(Refusal::new(98, format!("User {user} cannot be logged on: its password is NOLOG")));
    }
    ask(cp, user, LogonRequest::On(user, entry.kind))?;
    cp.console.tell(&format!("AUTO LOGON  ***       {user:<8} BY {}", issuer.user));
    Ok(Response::lines(vec![
        "Command accepted".to_owned(),
        format!("AUTO LOGON  ***       {user:<8} USERS = {}", cp.handle.snapshot()?.users.len()),
    ]))
}

pub(super) fn logon(cp: &Cp, _: &Issuer, words: &mut Words<'_>) -> Outcome {
    let user: UserId = words.value("a user id")?;
    let password = words.next().ok_or_else(|| Refusal::new(26, "Operand missing or invalid: a password"))?;
    words.end()?;
    let wrong = || Refusal::new(50, "LOGON unsuccessful--incorrect userid and/or password");
    let entry = cp.users.find(user).ok_or_else(wrong)?;
    if !cp.users.check_password(user, password) {
        return Err(wrong());
    }
    ask(cp, user, LogonRequest::On(user, entry.kind))?;
    cp.console.tell(&format!("LOGON AS  {user:<8} USERS = {}", cp.handle.snapshot()?.users.len()));
    Ok(Response::line(format!("LOGON of {user} at {}", cp.member())))
}

pub(super) fn logoff(cp: &Cp, issuer: &Issuer, words: &mut Words<'_>) -> Outcome {
    words.end()?;
    ask(cp, issuer.user, LogonRequest::Off(issuer.user))?;
    cp.console.tell(&format!("LOGOFF BY {:<8}", issuer.user));
    Ok(Response::line(format!("LOGOFF of {} at {}", issuer.user, cp.member())))
}

pub(super) fn force(cp: &Cp, issuer: &Issuer, words: &mut Words<'_>) -> Outcome {
    let user: UserId = words.value("a user id")?;
    // There is nothing yet that a user could do before it goes.
    words.accept("LOGOFF");
    words.accept("IMMED");
    words.end()?;
    let snapshot = cp.handle.snapshot()?;
    let is_here = snapshot.users.iter().any(|(held, _)| *held == user);
    let there = snapshot.users_elsewhere.iter().find(|(held, _)| *held == user);
    if let (false, Some((_, slot))) = (is_here, there)
        && let Some(member) = cp.member_in(*slot)
    {
        return at::call(cp, issuer, member, &format!("FORCE {user}"));
    }
    ask(cp, user, LogonRequest::Off(user))?;
    cp.console.tell(&format!("USER DSC   LOGOFF AS  {user:<8} FORCED BY {}", issuer.user));
    Ok(Response::line(format!("{user} forced at {}", cp.member())))
}

fn find(cp: &Cp, user: UserId) -> Result<User, Refusal> {
    cp.users.find(user).ok_or_else(|| Refusal::new(53, format!("{user} not in CP directory")))
}

fn ask(cp: &Cp, user: UserId, request: LogonRequest) -> Result<(), Refusal> {
    let answer = cp.handle.request(LOGON, request.encode(), PATIENCE)?;
    match LogonAnswer::decode(&answer) {
        Ok(LogonAnswer::Granted) => Ok(()),
        Ok(LogonAnswer::Refused(why)) => Err(in_words(cp, user, why)),
        Err(why) => Err(Refusal::plain(why)),
    }
}

fn in_words(cp: &Cp, user: UserId, why: LogonRefusal) -> Refusal {
    match why {
        LogonRefusal::LoggedOn(slot) => {
            Refusal::new(54, format!("{user} is already logged on at {}", text_of(cp, slot)))
        }
        LogonRefusal::NotLoggedOn => Refusal::new(45, format!("{user} not logged on")),
        LogonRefusal::Safe => {
            Refusal::plain(format!("{user}: the SSI cluster is in SAFE mode, nobody can be logged on"))
        }
        LogonRefusal::Waited(_) => {
            Refusal::plain(format!("{user}: {why}; the SSI cluster does not become stable"))
        }
        LogonRefusal::TooMany => Refusal::plain(format!("{user}: {why}")),
    }
}

fn text_of(cp: &Cp, slot: Slot) -> String {
    cp.member_text(slot)
}
