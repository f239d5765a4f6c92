//! Tables in Markdown, for the documentation.

pub(crate) struct Table {
    title: String,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(title: &str, head: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            head: head.iter().map(|cell| (*cell).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: &[String]) {
        assert_eq!(cells.len(), self.head.len());
        // Long runs are watched.
        eprintln!("  {}", cells.join(" | "));
        self.rows.push(cells.to_vec());
    }

    pub(crate) fn print(&self) {
        println!("\n{}\n", self.title);
        println!("| {} |", self.head.join(" | "));
        println!("|---|{}", "---:|".repeat(self.head.len() - 1));
        self.rows.iter().for_each(|row| println!("| {} |", row.join(" | ")));
    }
}

/// Three significant figures, or the whole number.
pub(crate) fn human(value: f64) -> String {
    let digits = match value.abs() {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// The value below which a share of them lies.
pub(crate) fn at(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get(((sorted.len() as f64 * share) as usize).min(last)).copied().unwrap_or(f64::NAN)
}

/// Middle and 99th of a hundred, in milliseconds, of durations in seconds.
pub(crate) fn millis(mut seconds: Vec<f64>) -> String {
    seconds.sort_by(f64::total_cmp);
    let text = |value: f64| human(value * 1000.0);
    format!("{} / {}", text(at(&seconds, 0.5)), text(at(&seconds, 0.99)))
}
