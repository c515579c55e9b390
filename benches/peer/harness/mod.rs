mod child;
mod cpu;
mod guest;
mod qemu; mod tsc;
use std::time::{Duration,Instant};
pub fn run() -> anyhow::Result<()> {
    let q = qemu::find(std::path::Path::new("qemu-system-x86_64")).unwrap();
    println!("{}", q.version);
    let hz = tsc::hz(); println!("{hz:.3e}");
    let s = qemu::Setting::START;
    for (mem, touched, rate, ws) in [(1u64<<30,1u64<<30,0.0,0u64),(1<<30,1<<30,5e8,256<<20),(1<<30,1<<30,2e9,512<<20),(64<<30,1<<28,0.0,0)] {
        let p = guest::Parameters { memory_bytes: mem, touched_bytes: touched, fill: guest::Fill::Random, dirty_bytes_per_s: rate, working_set_bytes: ws, tsc_hz: hz };
        let t = Instant::now();
        let mut g = qemu::Guest::boot(q.program.clone(), p, &s, None)?;
        println!("boot {:?}", t.elapsed());
        println!("quiet {:.1e}", g.quiet_dirtied_bytes_per_s(Duration::from_millis(500))?);
        for ch in [0u8,1,4,8] { for limit in [300,20] {
            let s = qemu::Setting{channels: ch, downtime_limit_ms: limit, prealloc: mem < 2<<30, ..s};
            let t = Instant::now();
            let o = g.migrate(&s, Duration::from_millis(200), Duration::from_secs(15))?;
            println!("{} {:?} {:?}", s.describe(), t.elapsed(), o);
        }}
    }
    Ok(())
}
