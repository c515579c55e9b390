//! Everything that can happen to a small cluster, in every order.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, unreachable_pub)]

#[path = "model_check/model.rs"]
mod model;
#[path = "model_check/state.rs"]
mod state;

use model::Cluster;
use state::Budget;
use stateright::{Checker, Model};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
fn n(name:&str, or:u64)->u64 { number(name).unwrap_or(or) }

#[test]
fn two() {
    let budget = Budget { steps: n("STEPS",2) as u8, faults: n("FAULTS",1) as u8, logons: n("LOGONS",2) as u8, logoffs: n("LOGOFFS",1) as u8, boots: n("BOOTS",0) as u8, commands: n("COMMANDS",0) as u8 };
    let cluster = Cluster { members: n("MEMBERS",2) as usize, is_prompt: n("PROMPT",1)==1, begins_on: n("ON",0)==1, begins_joined: n("JOINED",1)==1, budget, flying_max: n("FLYING",4) as usize };
    let began = std::time::Instant::now();
    let mut b = cluster.checker().threads(2);
    if let Some(d)=number("DEPTH") { b = b.target_max_depth(d as usize); }
    if let Some(d)=number("STATES") { b = b.target_state_count(d as usize); }
    let checker = b.spawn_bfs().join();
    println!("{} unique of {} states, depth {}, {:.1} s", checker.unique_state_count(), checker.state_count(), checker.max_depth(), began.elapsed().as_secs_f64());
    for (name, path) in checker.discoveries() {
        println!("{name}: {:?}", path.into_actions());
    }
    checker.assert_properties();
}
