//! Writes a few real frames, messages and texts into the corpus, for a fuzzer that starts from nothing:
//! `cargo +nightly run --example seeds`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use guest_mem::{
    ContentMix, ManifestBatch, PAGE_SIZE, PageCount, Run, Runs, Storage, StorageOptions, WorkloadGuest,
    WorkloadOptions,
};
use isfc::ctc::{Adapter, Effect, Identity, Request, Role};
use isfc::frame::{Extent, ExtentClass, FLAG_DIGEST, FrameKind, Header, IDX_LEN_BYTES};
use isfc::hello::{Agreement, FEATURES, Offer, Refusal, VERSIONS, Welcome};
use lgr_engine::codec::packer::Packer;
use lgr_engine::message::{self, Message, PassEnd, PassTotals};
use lgr_engine::owner::{GuestName, MemberName, OwnerVolume};
use lgr_engine::report::{FinishCode, PassKind};
use lgr_engine::trace::{Header as TraceHeader, Sample, Trace};
use ssi::dasd::{Geometry, TRACK_LEN_BYTES, Volume};
use ssi::directory::{HashCost, Object, UserDirect};
use ssi::member::{self, MemberState, Mode, Record, Transition};
use ssi::pdr::{Contents, Stamps};
use ssi::source::{Limits, Source};
use ssi::{ClusterName, SystemName, VolumeLabel};
use zerocopy::IntoBytes;

fn main() {
    write("frame_header", headers());
    write("hello", hellos());
    write("ctc_frame", ctc_frames());
    write("control_message", messages());
    write("owner_record", vec![owner_record()]);
    write("manifest_batch", vec![manifest_batch()]);
    write("guest_state", vec![guest_state()]);
    write("dirty_trace", dirty_traces());
    let extents = [extent(0x1000, 0x2000, ExtentClass::Raw), extent(0x3000, 0x1000, ExtentClass::Zero)];
    write(
        "extents",
        vec![[&[0xFF; 16][..], extents[0].to_wire().as_bytes(), extents[1].to_wire().as_bytes()].concat()],
    );
    let frame = zstd_of(&[7; 9000]);
    write(
        "packed_payload",
        vec![[&9000u32.to_le_bytes()[..], &frame].concat(), [&[9, 0, 0, 0][..], &frame].concat()],
    );
    // Segments 10 and 73 arrive, then 9: the oldest that an acknowledgement speaks of.
    write("segments", vec![vec![1, 2, 9, 2, 62, 1, 65, 4, 0]]);
    let layouts = ["ficon8s:4x4", "ficon-express4:1x12@10km", "FICON Express16S+:2x8@100"];
    write("layout", layouts.map(Vec::from).into());
    let addresses = ["tcp:127.0.0.1:7000", "[::1]:80", "unix:/tmp/a", "shm:/tmp/b", "rdma:/x:1", "tcp"];
    write("address", addresses.map(Vec::from).into());
    write("system_config", vec![FOUR_CONFIG.to_vec(), LAB_CONFIG.to_vec()]);
    write("user_direct", vec![FOUR_DIRECT.to_vec()]);
    write("object_directory", object_directories());
    write("pdr_record", vec![pdr_record()]);
    write("dasd_volume", vec![dasd_volume()]);
    write("member_message", vec![member_messages()]);
}

const FOUR_CONFIG: &[u8] = include_bytes!("../../ssi/tests/samples/four.config");
const LAB_CONFIG: &[u8] = include_bytes!("../../ssi/tests/samples/lab.config");
const FOUR_DIRECT: &[u8] = include_bytes!("../../ssi/tests/samples/four.direct");

/// The bytes, packed.
fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    let (mut packer, mut out) = (Packer::new(1).unwrap(), vec![0; bytes.len()]);
    packer.copy[..bytes.len()].copy_from_slice(bytes);
    let len = packer.pack(bytes.len(), 1, &mut out).unwrap();
    out[..len].to_vec()
}

fn write(target: &str, seeds: Vec<Vec<u8>>) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&dir).unwrap();
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(dir.join(format!("seed-{number}")), seed).unwrap();
    }
}

fn extent(offset_bytes: u64, len_bytes: u32, class: ExtentClass) -> Extent {
    Extent { offset_bytes, len_bytes, class }
}

fn headers() -> Vec<Vec<u8>> {
    let bare = |kind| Header::new(kind, 5);
    let transfer = Header {
        flags: FLAG_DIGEST,
        body_len_bytes: 0x2010,
        sequence: 7,
        epoch: 3,
        extents: 2,
        first_extent: extent(0x1000, 0x2000, ExtentClass::Raw).to_wire(),
        ..bare(FrameKind::Transfer)
    };
    let all = [
        transfer,
        Header { body_len_bytes: 9, socket: 3, ..bare(FrameKind::Message) },
        Header { socket: 3, sequence: 8, ..bare(FrameKind::Ack) },
        Header { sequence: 99, digest: 0xFFFF, extents: 16, ..bare(FrameKind::SegmentAck) },
        Header { body_len_bytes: IDX_LEN_BYTES as u64, segment: 1, ..bare(FrameKind::Idx) },
        bare(FrameKind::Ping),
        bare(FrameKind::Dvx),
    ];
    all.map(|header| header.encode().to_vec()).into()
}

fn hellos() -> Vec<Vec<u8>> {
    let offer = Offer {
        versions: VERSIONS,
        features: FEATURES,
        device: 2,
        devices: 4,
        shared_regions: 1,
        link_id: 9,
        resume: false,
    };
    let answers = [Ok(Agreement { version: 2, features: 1 }), Err(Refusal::Version), Err(Refusal::Busy)];
    let back = Offer { resume: true, shared_regions: 0, ..offer };
    let mut all = vec![offer.to_hello().as_bytes().to_vec(), back.to_hello().as_bytes().to_vec()];
    all.extend(answers.map(|answer| [offer.to_hello().as_bytes(), Welcome::new(answer).as_bytes()].concat()));
    all
}

fn ctc_frames() -> Vec<Vec<u8>> {
    let mut adapter = Adapter::new(Identity::default());
    let mut effects = Vec::new();
    adapter.connected(Role::Winner, &mut effects);
    for code in [0x03, 0xE3, 0x01, 0x02, 0x81, 0x14] {
        let request = Request { code, count_bytes: 4096, chained: false, data: Default::default() };
        adapter.command(request, &mut effects).unwrap();
        adapter.status_cleared(&mut effects);
    }
    adapter.reset(isfc::ctc::Reset::Clear, &mut effects);
    let frames = effects.iter().filter_map(|effect| match effect {
        Effect::Transmit(frame, _) => Some(frame.encode().to_vec()),
        _ => None,
    });
    frames.collect()
}

fn messages() -> Vec<Vec<u8>> {
    let totals = PassTotals { transfers: 5, pages: 6, digest: 7 };
    let offer = message::Offer {
        guest: GuestName::new("LINUX1").unwrap(),
        source: MemberName::new("MEMBERA").unwrap(),
        storage_len_bytes: 1 << 30,
        touched_len_bytes: 3 * PAGE_SIZE as u64,
        page_size_bytes: PAGE_SIZE as u32,
        backing: 1,
        verify: true,
        run_after_ms: 100,
        owner_epoch: 4,
        owner_nonce: 5,
        answers: true,
        stretches: vec![(0, 2), (9, 1)],
    };
    let all = [
        Message::Offer(offer),
        Message::PassEnd(PassEnd {
            epoch: 4,
            pass: 2,
            kind: PassKind::First,
            commit: false,
            commit_within_ms: 0,
            totals,
        }),
        Message::State(vec![1, 2, 3]),
        Message::Cancel(FinishCode::Cancelled, "because".to_owned()),
        Message::Manifest(3, manifest_batch()),
        Message::ManifestEnd(4),
        Message::Accepted { member: MemberName::new("MEMBERB").unwrap(), answers: true },
        Message::TryRecord(1),
        Message::Withdraw,
        Message::RecordReady(1),
        Message::RecordNotReady(1, "locked".into()),
        Message::Abstained("locked".into()),
        Message::Refused("no room".to_owned()),
        Message::PassOk(4, totals),
        Message::PassBad { epoch: 4, totals, damaged: 1 },
        Message::Resumed { owner_epoch: 5, commit_ns: 6, resume_ns: 7 },
        Message::NotOwner,
        Message::Failed("it broke".to_owned()),
        Message::ReadyToVerify,
        Message::ManifestTaken(3),
        Message::Report(b"{}".to_vec()),
        Message::Dictionary(b"bytes".to_vec()),
        Message::DictionaryTaken,
    ];
    all.iter().map(Message::encode).collect()
}

fn manifest_batch() -> Vec<u8> {
    ManifestBatch { run: Run::new(3, 2), versions: vec![1, 2], hashes: vec![3, 4] }.encode()
}

fn owner_record() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let volume = OwnerVolume::open(dir.path()).unwrap();
    let guest = GuestName::new("LINUX1").unwrap();
    volume.create(guest, MemberName::new("MEMBERA").unwrap()).unwrap();
    fs::read(volume.path(guest)).unwrap()
}

fn dirty_traces() -> Vec<Vec<u8>> {
    let header = TraceHeader::new(PageCount(64), Duration::from_millis(10));
    let sample = |n: u64, written: &[Run]| Sample {
        at: Duration::from_millis(10 * n),
        written: written.iter().copied().collect(),
    };
    let samples =
        vec![sample(1, &[Run::new(3, 2), Run::new(9, 1)]), sample(2, &[]), sample(3, &[Run::new(63, 1)])];
    let all = [
        Trace::new(header.clone(), Runs::new(), vec![]),
        Trace::new(header, Runs::from_run(Run::new(0, 32)), samples),
    ];
    let bytes = |trace: &Trace| {
        let mut bytes = Vec::new();
        trace.write(&mut bytes).unwrap();
        bytes
    };
    all.iter().map(|trace| bytes(trace.as_ref().unwrap())).collect()
}

fn guest_state() -> Vec<u8> {
    let storage = std::sync::Arc::new(Storage::create(&StorageOptions::small(4 << 20)).unwrap());
    let options = WorkloadOptions {
        pattern: "uniform".parse().unwrap(),
        dirty_rate_bytes_per_s: 1 << 20,
        working_set_bytes: Some(1 << 20),
        touched_bytes: 2 << 20,
        content: ContentMix::Realistic,
        seed: 11,
        vcpus: 2,
    };
    WorkloadGuest::new(storage, options, None).unwrap().save_state().unwrap()
}

fn cluster() -> (ClusterName, [SystemName; 2]) {
    let members = ["MEMBERA", "MEMBERB"].map(|name| SystemName::new(name).unwrap());
    (ClusterName::new("DEMOSSI").unwrap(), members)
}

/// Without their headers, which the target makes.
fn object_directories() -> Vec<Vec<u8>> {
    let source = Source::new("four.direct", FOUR_DIRECT, Limits::DIRECTORY).unwrap();
    let (directory, _) = UserDirect::parse(&source);
    let (_, members) = cluster();
    let dir = tempfile::tempdir().unwrap();
    let objects = Object::compile(&directory, &members, 1, HashCost::LEAST).unwrap();
    let placed: Vec<_> =
        objects.iter().zip(["a", "b"]).map(|(one, name)| (dir.path().join(name), one)).collect();
    ssi::directory::write(&placed).unwrap();
    placed.iter().map(|(path, _)| fs::read(path).unwrap()[0x20..].to_vec()).collect()
}

/// The header, and the used part of each system.
fn pdr_record() -> Vec<u8> {
    let (cluster, members) = cluster();
    let record = Record::new(cluster, [Some(members[0]), Some(members[1]), None, None]);
    let contents =
        Contents { generation: 7, record, stamps: Stamps::default(), moved_to: None, copied_from: None };
    let bytes = contents.to_bytes();
    let systems = (0..4).flat_map(|slot| bytes[0xC0 + 704 * slot..][..0x30].to_vec());
    bytes[..0x50].iter().copied().chain(systems).collect()
}

/// The first five tracks of a volume with a record on it, each with its length before it.
fn dasd_volume() -> Vec<u8> {
    let (cluster, members) = cluster();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("volume");
    let label =
        ssi::dasd::Label { label: VolumeLabel::new("VMCOM1").unwrap(), allocation: Default::default() };
    let volume: Volume = ssi::dasd::format(&path, Geometry { cylinders: 1 }, &label).unwrap();
    drop(volume);
    let record = Record::new(cluster, [Some(members[0]), Some(members[1]), None, None]);
    ssi::pdr::create(&path, &record, true).unwrap();
    let mut seed = vec![0];
    for track in fs::read(&path).unwrap()[512..].chunks(TRACK_LEN_BYTES).take(5) {
        let used = track[..1_200].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        seed.extend((used as u16).to_le_bytes());
        seed.extend(&track[..used]);
    }
    seed
}

/// Each with its length before it.
fn member_messages() -> Vec<u8> {
    let shares = || vec![("Configuration".to_owned(), vec![1, 2]), ("Logon".to_owned(), vec![0])];
    let (incarnation, level) = (7, member::LEVEL);
    let all = [
        member::Message::Heartbeat {
            incarnation,
            state: MemberState::Joined,
            mode: Mode::Stable,
            reached: [true, true, false, false],
        },
        member::Message::Request { transition: Transition::Join, incarnation, level, shares: shares() },
        member::Message::Consent { incarnation, level, shares: shares() },
        member::Message::Veto { incarnation, service: "Logon".to_owned(), reason: "no".to_owned() },
        member::Message::Proceed { incarnation },
        member::Message::Abort { incarnation },
        member::Message::Resynchronise { incarnation, shares: shares() },
        member::Message::ShareWanted,
        member::Message::Service { service: "Logon".to_owned(), body: vec![1, 2, 3] },
    ];
    let framed =
        all.iter().map(member::Message::encode).flat_map(|bytes| [vec![bytes.len() as u8], bytes].concat());
    framed.collect()
}
