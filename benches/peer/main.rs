mod harness;
fn main() { harness::run().unwrap(); }
