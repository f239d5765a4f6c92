//! Messages of named values: whatever their order and their times, history is never taken for the present.

use super::{NOW, shipped};
use fengsui::model::{Span, Value};
use proptest::prelude::*;

proptest! {
    #[test]
    fn of_several_values_of_one_name_only_the_newest_is_the_present(
        ages in prop::collection::vec(0u16..1000, 1..20), smoking in prop::collection::vec(any::<bool>(), 20)
    ) {
        let profile = shipped("generic/senml-smoke");
        let record = |(age, smoke): (&u16, &bool)| format!(r#"{{"n":"smoke","t":-{age},"vb":{smoke}}}"#);
        let records: Vec<String> = ages.iter().zip(&smoking).map(record).collect();
        let decoded = profile.decode_message(0, format!("[{}]", records.join(",")).as_bytes(), NOW);
        prop_assert_eq!(decoded.samples.len(), ages.len(), "no value is lost");
        let newest = ages.iter().min().copied().unwrap_or(0);
        let tolerated = NOW - Span::from_secs(300);
        for pair in decoded.samples.windows(2) {
            let time = |place: usize| pair[place].sampled_at.unwrap_or(NOW);
            prop_assert!(time(0) <= time(1), "oldest first");
        }
        for sample in &decoded.samples {
            let time = sample.sampled_at.unwrap_or(NOW);
            let present = time == NOW - Span::from_secs(i64::from(newest)) && time >= tolerated;
            prop_assert_eq!(!sample.late, present, "{:?}", sample);
        }
        let fires = ages.iter().zip(&smoking).filter(|(_, smoke)| **smoke).count();
        let told = decoded.samples.iter().filter(|sample| sample.value == Value::Code("alarm".into())).count();
        prop_assert_eq!(told, fires, "every fire is told, late or not");
    }
}
