//! A link that is dropped leaves no thread and no descriptor. Alone in its process, so that they can be counted.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::{Duration, Instant};

use isfc::tls::pki::{Validity, create_ca, issue};
use isfc::tls::{Identity, Tls};
use isfc::{Link, LinkOptions, Listener};

const PATIENCE: Duration = Duration::from_secs(20);

fn count(what: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count()
}

#[test]
fn a_link_that_is_dropped_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    create_ca(dir.path(), "TEST", Validity::days(1)).unwrap();
    let [a, b] = ["A", "B"].map(|name| {
        let out = dir.path().join(name);
        issue(dir.path(), name, Validity::days(1), &out).unwrap();
        Tls::new(Identity::load(&out).unwrap())
    });
    let link = |endpoints, name: &str| {
        Link::start(endpoints, LinkOptions { name: name.to_owned(), ..LinkOptions::default() }).unwrap()
    };
    let before = (count("task"), count("fd"));
    for _ in 0..3 {
        let listener =
            Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap().with_tls(b.clone()).unwrap();
        let address = listener.address().clone();
        let called = std::thread::scope(|scope| {
            let called = scope.spawn(|| isfc::connect_tls(&address, 16, &a).unwrap());
            let taken = listener.accept(Some(PATIENCE), &|| false, &|why| panic!("{why}")).unwrap();
            (called.join().unwrap(), taken)
        });
        let taken = called.1.rejoin_through(listener);
        let links = (link(called.0, "A"), link(taken, "B"));
        assert!(count("task") >= before.0 + 4 * 16);
        drop(links);
        // A listener that is dropped with a caller half way, and one that nobody answers.
        let listener =
            Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap().with_tls(b.clone()).unwrap();
        let caller =
            std::net::TcpStream::connect(listener.address().to_string().split_once(':').unwrap().1).unwrap();
        let stop_at = Instant::now() + Duration::from_millis(300);
        let _ = listener.accept(None, &|| Instant::now() > stop_at, &|_| {});
        drop((listener, caller));
    }
    let started = Instant::now();
    while (count("task"), count("fd")) != before && started.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!((count("task"), count("fd")), before);
}
