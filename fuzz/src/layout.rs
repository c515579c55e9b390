//! The channels of a link, as somebody writes them.

use isfc::ficon::Layout;

pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(layout) = text.parse::<Layout>() else { return };
    assert!(layout.channels >= 1 && layout.devices >= layout.channels && layout.devices <= 16);
    assert!(layout.distance_km <= 300);
    let channels: Vec<u8> = (0..layout.devices).map(|device| layout.channel(device)).collect();
    assert!(channels.is_sorted() && channels[0] == 0);
    assert!((0..layout.channels).all(|channel| channels.contains(&channel)), "a channel without a device");
    assert!(channels.iter().all(|channel| *channel < layout.channels));
    assert_eq!(layout.to_string().parse(), Ok(layout));
    let (_, rest) = text.rsplit_once(':').unwrap();
    assert!(rest.matches("km").count() <= usize::from(rest.contains('@')), "a unit where none belongs");
}
