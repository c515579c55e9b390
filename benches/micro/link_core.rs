//! The logical link's core: a message numbered, carried, delivered and acknowledged, without any I/O.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::Criterion;
use isfc::SocketId;
use isfc::link::{Core, Effect};

use crate::limit::{Limit, against};

const MESSAGES: usize = 512;
const BODY_BYTES: usize = 64;

/// The least that passing a message takes: its bytes are put into memory of their own on each side.
fn two_copies() -> Limit {
    let mut best = f64::INFINITY;
    for _ in 0..1000 {
        let started = Instant::now();
        for _ in 0..MESSAGES {
            let body: Arc<[u8]> = Arc::from(black_box([0_u8; BODY_BYTES]).as_slice());
            black_box(body.to_vec());
        }
        best = best.min(started.elapsed().as_secs_f64());
    }
    Limit::new("two allocations and copies each", best)
}

pub(crate) fn link_core(criterion: &mut Criterion) {
    let socket = SocketId::new(16).expect("a socket's number");
    let (mut here, mut there) = (Core::new(16), Core::new(16));
    let mut effects = Vec::new();
    let mut group = criterion.benchmark_group("link core");
    against(
        &mut group,
        "512 messages of 64 bytes, sent to acknowledged",
        None,
        &two_copies(),
        || (),
        |()| {
            for number in 0..MESSAGES {
                let message =
                    here.send(socket, Arc::from([0_u8; BODY_BYTES].as_slice())).expect("room for a message");
                here.carried((number % 16) as u8, socket, message.sequence);
                there
                    .message(socket, message.sequence, message.body.to_vec(), &mut effects)
                    .expect("in order");
                for effect in effects.drain(..) {
                    if let Effect::Transmit(ack) = black_box(effect) {
                        here.ack(socket, ack.sequence);
                    }
                }
            }
            assert_eq!(here.unacked(), 0, "every message is acknowledged");
        },
    );
    group.finish();
}
