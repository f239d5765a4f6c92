//! Tests of: `[series]` in gateway.toml.

use fengsui::config::render::Colour;
use fengsui::config::{Config, SeriesKeep};
use fengsui::model::Span;
use fengsui::series::Keep;

pub(super) const PLAN: &str = "[[site]]\nid = \"s\"\nname = \"s\"\naddress = \"a\"\n[[site.contact]]\nrole = \"值班\"\n\
    phone = \"1\"\n[[site.zone]]\nid = \"z\"\nname = \"z\"\n[[site.zone.device]]\nid = \"dev\"\nname = \"d\"\n\
    profile = \"zigbee2mqtt/heiman-hs1sa-e\"\nlink = \"broker\"\naddress = \"0x1\"\n";

pub(super) fn read(series: &str) -> Result<Config, String> {
    let gateway = format!("plan = \"plan.toml\"\n[broker]\nanonymous = true\n{series}");
    match Config::from_texts(&[("gateway.toml", &gateway), ("plan.toml", PLAN)], &|_| None) {
        Ok((config, _)) => Ok(config),
        Err(report) => Err(report.render(Colour::No)),
    }
}

fn days(days: [i64; 3]) -> SeriesKeep {
    let [raw, minute, hour] = days.map(|days| Span::from_secs(days * 86_400));
    SeriesKeep { raw, minute, hour }
}

#[test]
fn the_series_are_kept_as_told_and_a_class_otherwise() {
    let plain = read("").unwrap().gateway.series;
    let Keep { raw, minute, hour } = Keep::default();
    assert_eq!((plain.keep, plain.classes.len()), (SeriesKeep { raw, minute, hour }, 0));
    let told = "[series]\nraw_days = 7\n[series.class.residual_current]\nraw_days = 30\nhour_days = 4000\n";
    let told = read(told).unwrap().gateway.series;
    assert_eq!(told.keep, days([7, 400, 3650]));
    assert_eq!(told.classes.len(), 1);
    assert_eq!((told.classes[0].0.as_str(), told.classes[0].1), ("residual_current", days([30, 400, 4000])));
}

#[test]
fn every_mistake_in_the_series_table_is_told() {
    for (series, expected) in [
        ("[series.class.residual_curent]\nraw_days = 3\n", "residual_current"),
        ("[series]\nraw_day = 3\n", "raw_days"),
        ("[series]\nraw_days = 0\n", "1..="),
        ("[series]\nraw_days = 500\n", "raw_days ≤ minute_days"),
        ("[series]\nhour_days = 30\n", "minute_days ≤ hour_days"),
        ("[series.class]\nresidual_current = 3\n", "a table"),
    ] {
        let refused = read(series).expect_err(series);
        assert!(refused.contains(expected), "{series}: {refused}");
    }
}
