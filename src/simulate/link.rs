//! `lgr simulate link`: what FICON channels would carry.

use std::process::ExitCode;

use clap::Args;
use isfc::ficon::{Generation, Layout, Simulation};
use isfc::write_rule::Side;
use serde::Serialize;

use crate::options::named;
use crate::progress::{complain, print};
use crate::table::Table;

/// Options of `lgr simulate link`.
#[derive(Args, Debug)]
pub(crate) struct LinkArgs {
    /// FICON channels on each side
    #[arg(long, default_value_t = 4, value_name = "N")]
    channels: u32,

    /// Devices of the link in all, spread over the channels
    #[arg(long, default_value_t = 16, value_name = "N")]
    devices: u32,

    /// Channel generation: ficon4, ficon8, ficon8s, ficon16s or ficon16s+
    #[arg(long = "gen", default_value = "ficon16s+", value_parser = named::<Generation>, value_name = "GENERATION")]
    generation: Generation,

    /// Length of the fibre
    #[arg(long, default_value_t = 0, value_name = "KM")]
    distance_km: u32,

    /// Virtual time
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600), value_name = "SECONDS")]
    seconds: u64,

    /// The other side writes, too
    #[arg(long)]
    both_ways: bool,

    /// JSON in place of a table
    #[arg(long)]
    json: bool,

    /// A Markdown table of 1 to 4 channels, 1 to 4 devices each, of every generation
    #[arg(long, exclusive = true)]
    table: bool,
}

#[derive(Serialize)]
struct Line {
    device: usize,
    channel: u8,
    side: &'static str,
    ssch_per_s: f64,
    bytes_per_s: f64,
    collisions: u64,
    busy: f64,
}

/// Runs the subcommand.
pub(crate) fn run(args: &LinkArgs) -> anyhow::Result<ExitCode> {
    if args.table {
        print(&all_layouts()?);
        return Ok(ExitCode::SUCCESS);
    }
    let layout = match Layout::new(args.generation, args.channels, args.devices, args.distance_km) {
        Ok(layout) => layout,
        Err(error) => {
            complain(&format!("error: {error}"));
            return Ok(ExitCode::from(2));
        }
    };
    let mut simulation = Simulation::new(layout, args.both_ways);
    simulation.run(args.seconds * 1_000_000_000);
    let lines = lines(&simulation, &layout, args.both_ways);
    print(&if args.json {
        serde_json::to_string_pretty(&lines)? + "\n"
    } else {
        text(&lines, &layout) + &messages(&mut simulation, layout)
    });
    Ok(ExitCode::SUCCESS)
}

fn lines(simulation: &Simulation, layout: &Layout, both_ways: bool) -> Vec<Line> {
    let seconds = simulation.now_ns() as f64 / 1e9;
    let sides: &[(usize, &'static str)] =
        if both_ways { &[(0, "lesser"), (1, "greater")] } else { &[(0, "lesser")] };
    let line = |device: usize, (side, name): (usize, &'static str)| {
        let figures = simulation.figures()[device][side];
        Line {
            device,
            channel: layout.channel(device as u8),
            side: name,
            ssch_per_s: figures.ssch as f64 / seconds,
            bytes_per_s: figures.bytes as f64 / seconds,
            collisions: figures.collisions,
            // The last program may end after the time that was asked for.
            busy: (figures.busy_ns as f64 / simulation.now_ns() as f64).min(1.0),
        }
    };
    let devices = 0..simulation.figures().len();
    devices
        .flat_map(|device| sides.iter().map(move |side| (device, *side)))
        .map(|(d, s)| line(d, s))
        .collect()
}

fn text(lines: &[Line], layout: &Layout) -> String {
    let mut table = Table::new(
        &["device", "channel", "side", "SSCH/s", "MB/s", "collisions", "busy"],
        &[0, 1, 3, 4, 5, 6],
    );
    for line in lines {
        table.row([
            line.device.to_string(),
            line.channel.to_string(),
            line.side.to_owned(),
            format!("{:.1}", line.ssch_per_s),
            format!("{:.1}", line.bytes_per_s / 1e6),
            line.collisions.to_string(),
            format!("{:.0} %", line.busy * 100.0),
        ]);
    }
    let writing: Vec<&Line> = lines.iter().filter(|line| line.ssch_per_s > 0.0).collect();
    let sum = |value: fn(&Line) -> f64| writing.iter().map(|line| value(line)).sum::<f64>();
    let (rate, ssch) = (sum(|line| line.bytes_per_s) / 1e6, sum(|line| line.ssch_per_s));
    let plural = |count: u8| if count == 1 { "" } else { "s" };
    format!(
        "{}, {} channel{}, {} device{}, {} km\n\n{table}\n{} write: {rate:.1} MB/s, {ssch:.1} SSCH/s, \
         {:.1} SSCH/s each{}\n",
        layout.generation,
        layout.channels,
        plural(layout.channels),
        layout.devices,
        plural(layout.devices),
        layout.distance_km,
        writing.len(),
        ssch / writing.len().max(1) as f64,
        if writing.len() < lines.len() { "; the others are quiet by the write rule" } else { "" }
    )
}

/// What a control message pays for the pages beside it.
fn messages(simulation: &mut Simulation, layout: Layout) -> String {
    let us = |ns: u64| ns as f64 / 1e3;
    let (idle, _) = Simulation::idle(layout).round_trips();
    let (median, p99) = simulation.round_trips();
    format!(
        "a 64-byte message and its answer: {:.0} us on the idle link; beside this {:.0} us, p99 {:.0} us\n",
        us(idle),
        us(median),
        us(p99)
    )
}

/// One way, MB/s.
fn all_layouts() -> anyhow::Result<String> {
    let mut text = "One way, saturated, MB/s of payload, by devices on each channel.\n\n\
        | generation | channels | 1 device | 2 devices | 3 devices | 4 devices |\n|---|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for generation in Generation::ALL {
        for channels in 1..=4 {
            text += &format!("| {generation} | {channels} |");
            for each in 1..=4 {
                let layout = Layout::new(generation, channels, channels * each, 0)?;
                let mut simulation = Simulation::new(layout, false);
                simulation.run(10_000_000_000);
                text += &format!(" {:.0} |", simulation.bytes_per_s(Side::Lesser) / 1e6);
            }
            text.push('\n');
        }
    }
    Ok(text)
}
