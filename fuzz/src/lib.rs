//! What each fuzz target does with its bytes. The fuzzer runs it on bytes it thinks of, `tests/fuzz_corpus.rs` of the
//! workspace on those in `corpus`, which needs no nightly toolchain.

pub mod address;
pub mod choices;
pub mod control_message;
pub mod ctc_adapter;
pub mod ctc_channel;
pub mod ctc_frame;
pub mod dasd_volume;
pub mod device_stream;
pub mod dirty_trace;
pub mod extents;
pub mod frame_header;
pub mod guest_state;
pub mod hello;
pub mod layout;
pub mod manifest_batch;
pub mod member_message;
pub mod object_directory;
pub mod owner_record;
pub mod packed_payload;
pub mod pdr_record;
pub mod segments;
pub mod socket_message;
pub mod system_config;
pub mod user_direct;

/// Takes any bytes; panics if an invariant does not hold.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 23] = [
    ("address", address::run),
    ("control_message", control_message::run),
    ("ctc_adapter", ctc_adapter::run),
    ("ctc_channel", ctc_channel::run),
    ("ctc_frame", ctc_frame::run),
    ("dasd_volume", dasd_volume::run),
    ("device_stream", device_stream::run),
    ("dirty_trace", dirty_trace::run),
    ("extents", extents::run),
    ("frame_header", frame_header::run),
    ("guest_state", guest_state::run),
    ("hello", hello::run),
    ("layout", layout::run),
    ("manifest_batch", manifest_batch::run),
    ("member_message", member_message::run),
    ("object_directory", object_directory::run),
    ("owner_record", owner_record::run),
    ("packed_payload", packed_payload::run),
    ("pdr_record", pdr_record::run),
    ("segments", segments::run),
    ("socket_message", socket_message::run),
    ("system_config", system_config::run),
    ("user_direct", user_direct::run),
];
