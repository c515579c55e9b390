//! A thread of a link that panics: whatever it was doing, the link goes down at both ends, says why, and nothing waits.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

use isfc::{
    Admission, DownReason, Engine, Extent, ExtentClass, Link, LinkEvent, LinkOptions, Listener, Next, Placed,
    Region, Transfer, TransferSink, TransferSource,
};

const PATIENCE: Duration = Duration::from_secs(20);
const WORDS: &str = "on purpose";

/// Where a source or a sink panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Next,
    Sent,
    Delivered,
    SourceDeviceDown,
    Admit,
    Placed,
    SinkDeviceDown,
}

const PLACES: [Place; 7] = [
    Place::Next,
    Place::Sent,
    Place::Delivered,
    Place::SourceDeviceDown,
    Place::Admit,
    Place::Placed,
    Place::SinkDeviceDown,
];

struct End(Place);

impl End {
    fn at(&self, place: Place) {
        assert!(self.0 != place, "{WORDS}");
    }
}

impl TransferSource for End {
    fn next(&self, _: u8, transfer: &mut Transfer) -> Next {
        self.at(Place::Next);
        transfer.tag += 1;
        transfer.epoch = 1;
        transfer.extents.push(Extent { offset_bytes: 0, len_bytes: 65536, class: ExtentClass::Raw });
        Next::Ready
    }

    fn sent(&self, _: u8, _: u32, _: u64, _: u64) {
        self.at(Place::Sent);
    }

    fn delivered(&self, _: u8, _: u32, _: u64) {
        self.at(Place::Delivered);
    }

    fn lost(&self, _: u8, _: u32, _: u64) {}

    fn device_down(&self, _: u8) {
        self.at(Place::SourceDeviceDown);
    }
}

impl TransferSink for End {
    fn admit(&self, _: u8, _: u32, _: u64, _: &[Extent]) -> Result<Admission, String> {
        self.at(Place::Admit);
        Ok(Admission::Place)
    }

    fn placed(&self, _: u8, _: &Placed<'_>) {
        self.at(Place::Placed);
    }

    fn damaged(&self, _: u8) {}

    fn device_down(&self, _: u8) {
        self.at(Place::SinkDeviceDown);
    }
}

fn region() -> Region {
    let memory = Arc::new(memmap2::MmapRaw::from(memmap2::MmapMut::map_anon(65536).unwrap()));
    let base = NonNull::new(memory.as_mut_ptr()).unwrap();
    // SAFETY: the mapping is owned by the Arc that the region keeps.
    unsafe { Region::new(0, base, 65536, memory) }
}

/// Two ends of a link of four devices that come back if they may: the one that sends first.
fn pair(engine: Engine) -> (Link, Link) {
    let listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
    let target = listener.address().clone();
    let caller = std::thread::spawn(move || isfc::connect(&target, 4, &[]).unwrap());
    let taken = listener.accept(Some(PATIENCE), &|| false, &|why| panic!("{why}")).unwrap();
    let options = || LinkOptions { engine: Some(engine), ..LinkOptions::default() };
    let there = Link::start(taken.rejoin_through(listener), options()).unwrap();
    (Link::start(caller.join().unwrap(), options()).unwrap(), there)
}

fn why_down(link: &Link) -> DownReason {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Ok(LinkEvent::LinkDown(why)) = link.recv(Duration::from_millis(100)) {
            return why;
        }
    }
    panic!("the link is not down: {:?}", link.islink());
}

fn engines() -> Vec<Engine> {
    let ring = isfc::probe_io_uring().is_ok().then_some(Engine::IoUring);
    ring.into_iter().chain([Engine::Blocking]).collect()
}

#[test]
fn a_panic_in_any_callback_of_a_device_takes_the_link_down_with_its_words() {
    for engine in engines() {
        for place in PLACES {
            let (near, far) = pair(engine);
            near.register(region()).unwrap();
            far.register(region()).unwrap();
            far.set_sink(Arc::new(End(place)));
            near.set_source(Arc::new(End(place)));
            if matches!(place, Place::SourceDeviceDown | Place::SinkDeviceDown) {
                (0..4).for_each(|device| near.cut_device(device));
            }
            let here = !matches!(place, Place::Admit | Place::Placed | Place::SinkDeviceDown);
            let reasons = [why_down(&near), why_down(&far)];
            let told = &reasons[usize::from(!here)];
            assert!(
                matches!(told, DownReason::Panicked { words, .. } if words.contains(WORDS))
                    // All devices had gone down before the first callback was made.
                    || matches!(place, Place::SourceDeviceDown | Place::SinkDeviceDown),
                "{engine:?} {place:?}: {reasons:?}"
            );
            assert_eq!((near.devices_up(), far.devices_up()), (0, 0));
            let began = Instant::now();
            drop((near, far));
            assert!(began.elapsed() < PATIENCE, "{engine:?} {place:?}: it takes long to let go");
        }
    }
}
