//! The doctor finds what is wrong: each situation is made for real, and found under its lasting name.

use crate::support::doctor::{Told, find};
use crate::support::gateway::{BROKER, Gateway, House, Stuck, smoke, topic};
use crate::support::ports::{free_port, soon};
use fengsui::cli::doctor::{Grade, Patient, examine};
use fengsui::clock::Clock;
use fengsui::journal::{Entry, Journal, Limits, Note, NoteKind, Write};
use fengsui::metrics::Metrics;
use fengsui::model::{Span, Text, Timestamp};
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_fengsui");

/// A house whose page is on a port that the doctor can know.
fn house(more: &str) -> House {
    let devices = [smoke("sd-1", "broker"), smoke("sd-2", "broker")].concat();
    House::build(&format!("{BROKER}{more}"), &devices).with_a_known_page()
}

/// One that ran and was stopped in good order.
async fn stopped(house: &House) {
    let gateway = house.launch().await;
    let mut pen = gateway.pen("sd-1").await;
    pen.publish(&topic("sd-1"), r#"{"smoke":1}"#).await;
    gateway.hazard("sd-1/smoke", "smoke-fire", |fire| fire["recorded"] == true).await;
    gateway.stop().await;
}

fn now() -> Timestamp {
    Clock::system().now()
}

#[tokio::test]
async fn a_gateway_at_work_with_a_fresh_backup_is_well() {
    let usb = tempfile::tempdir_in("/dev/shm").unwrap();
    let house = house(&format!("[backup]\ndir = \"{}\"\nevery_hours = 24\n", usb.path().display()));
    let gateway = house.launch().await;
    let mut pen = gateway.pen("sd-1").await;
    pen.publish(&topic("sd-1"), r#"{"smoke":1}"#).await;
    Told::of(&house).sees("backup-never", "warning");
    let (code, said) = House::tool(&["backup", "--config", house.config().to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    let told = Told::of(&house);
    for id in [
        "config",
        "clock",
        "running",
        "disk",
        "database",
        "audit",
        "hazards",
        "clean-stop",
        "series",
        "backup",
    ] {
        told.sees(id, "good");
    }
    assert!(
        told.sees("running", "good")["what"]["zh"].as_str().unwrap().contains(&gateway.pid().to_string())
    );
    assert!(told.sees("hazards", "good")["what"]["zh"].as_str().unwrap().contains("未关闭的报警 1 条"));
    assert_eq!(told.code, 0, "{:#?}", told.findings);
    let (code, said) = House::tool(&["doctor", "--config", house.config().to_str().unwrap(), "--lang", "en"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("一切正常") && said.contains("the gateway runs"), "{said}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_wrong_configuration_is_told_and_the_rest_is_looked_at_all_the_same() {
    let house = house("");
    stopped(&house).await;
    let text = std::fs::read_to_string(house.config()).unwrap();
    std::fs::write(house.config(), text.replace("window_ms", "windw_ms")).unwrap();
    let told = Told::of(&house);
    assert!(told.sees("config-wrong", "serious")["what"]["zh"].as_str().unwrap().contains("windw_ms"));
    told.sees("database", "good");
    std::fs::remove_file(house.config()).unwrap();
    let told = Told::of(&house);
    assert_eq!((told.code, told.findings.len()), (2, 1), "{:#?}", told.findings);
    told.sees("config-wrong", "serious");
}

/// Such a plan can be used, and the gateway runs on it.
#[tokio::test]
async fn a_plan_that_is_usable_but_careless_is_told_and_no_reason_to_stay_off() {
    let house = house("");
    let plan = house.config().with_file_name("plan.toml");
    let text = std::fs::read_to_string(&plan).unwrap();
    std::fs::write(&plan, text.replace("phone = \"119\"", "phone = \"\"")).unwrap();
    let gateway = house.launch().await;
    let told = Told::to_a_person(&house).await;
    let words = ["配置可用，有 1 个提醒", "plan.toml", "联系人没有电话", "运行 fengsui check --config"];
    told.says("config-warnings", "warning", &words);
    told.nothing_but(&["config-warnings"]);
    std::fs::write(&plan, text).unwrap();
    let told = Told::to_a_person(&house).await;
    told.says("config", "good", &["配置正确"]);
    told.nothing_but(&[]);
    gateway.stop().await;
}

#[tokio::test]
async fn a_data_directory_that_is_gone_or_empty_or_forbidden_is_told() {
    let house = house("");
    Told::of(&house).sees("data-missing", "serious");
    std::fs::create_dir(house.data()).unwrap();
    Told::of(&house).sees("database-missing", "warning");
    // Another account, under which the gateway could not run.
    let program = house.config().with_file_name("fengsui");
    std::fs::hard_link(PROGRAM, &program).or_else(|_| std::fs::copy(PROGRAM, &program).map(|_| ())).unwrap();
    let folder = house.config().parent().unwrap().to_owned();
    assert!(Command::new("chmod").args(["-R", "a+rX"]).arg(&folder).status().unwrap().success());
    let by_nobody = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        command.args(["doctor", "--json", "--config"]).arg(house.config());
        Told::by(command)
    };
    by_nobody().sees("data-unwritable", "serious");
    assert!(Command::new("chmod").arg("700").arg(house.data()).status().unwrap().success());
    by_nobody().sees("data-unwritable", "serious");
}

/// In a name space of its own.
#[tokio::test]
async fn a_file_system_that_is_read_only_is_told() {
    let house = house("");
    stopped(&house).await;
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && shift && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(house.data());
    command.args([PROGRAM, "doctor", "--json", "--config"]).arg(house.config());
    let told = Told::by(command);
    told.sees("read-only", "serious");
    told.sees("database", "good");
}

#[tokio::test]
async fn a_database_that_was_deleted_is_told_running_or_not() {
    let house = house("");
    let gateway = house.launch().await;
    let mut pen = gateway.pen("sd-1").await;
    pen.publish(&topic("sd-1"), r#"{"smoke":1}"#).await;
    std::fs::remove_file(house.data().join("journal.db")).unwrap();
    // At once it is serious; the gateway puts it back within seconds, and that is told as well.
    let told = Told::of(&house);
    told.sees("running", "good");
    assert!(told.find("database-deleted").is_some(), "{:#?}", told.findings);
    soon("the gateway puts it back", async {
        while Told::of(&house).find("database-deleted").is_none_or(|found| found["grade"] != "warning") {
            pen.publish(&topic("sd-1"), r#"{"temperature":21}"#).await;
        }
    })
    .await;
    gateway.stop().await;
    std::fs::remove_file(house.data().join("journal.db")).unwrap();
    let told = Told::of(&house);
    told.sees("not-running", "warning");
    let gone = told.sees("database-deleted", "serious");
    assert!(gone["todo"]["zh"].as_str().unwrap().contains("fengsui restore"), "{gone}");
}

#[tokio::test]
async fn a_database_that_somebody_put_in_place_at_work_is_told_with_where_it_is_now() {
    let (house, other) = (house(""), house(""));
    stopped(&other).await;
    let gateway = house.launch().await;
    let mut pen = gateway.pen("sd-1").await;
    pen.publish(&topic("sd-1"), r#"{"smoke":1}"#).await;
    // As somebody might try who has a copy of it on a stick.
    std::fs::rename(other.data().join("journal.db"), house.data().join("journal.db")).unwrap();
    soon("the gateway sets it aside", async {
        while Told::of(&house).find("foreign-set-aside").is_none() {
            pen.publish(&topic("sd-1"), r#"{"temperature":21}"#).await;
        }
    })
    .await;
    let told = Told::to_a_person(&house).await;
    let aside = told.sees("foreign-set-aside", "warning");
    assert_eq!(
        (aside["about"].as_str(), aside["since_ms"].is_number()),
        (Some("journal.db.replaced-1"), true)
    );
    let words =
        ["另存为 journal.db.replaced-1", "网关继续用原来的数据", "用 fengsui restore；不要直接换文件"];
    told.says("foreign-set-aside", "warning", &words);
    told.says("database-deleted", "warning", &["数据库文件在运行中被替换", "没有丢记录"]);
    told.says("hazards", "good", &["未关闭的报警 1 条"]);
    told.nothing_but(&["foreign-set-aside", "database-deleted"]);
    gateway.stop().await;
}

#[tokio::test]
async fn a_damaged_database_is_told_and_after_the_next_start_that_it_was_set_aside() {
    let house = house("");
    stopped(&house).await;
    let file = house.data().join("journal.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let length = bytes.len();
    bytes[4096..length].chunks_mut(4096).step_by(3).for_each(|page| page[..64].fill(0xA5));
    std::fs::write(&file, bytes).unwrap();
    Told::of(&house).sees("database-damaged", "serious");
    stopped(&house).await;
    let told = Told::of(&house);
    let aside = told.sees("damaged-set-aside", "warning");
    assert_eq!(aside["about"], "journal.db.damaged-1");
    assert!(
        aside["since_ms"].is_number() && aside["means"]["zh"].as_str().unwrap().contains("已恢复"),
        "{aside:#}"
    );
    told.sees("database", "good");
    std::fs::write(&file, "no database at all, but long enough to be taken for one ".repeat(100)).unwrap();
    Told::of(&house).sees("database-damaged", "serious");
}

#[tokio::test]
async fn marks_and_formats_are_told() {
    let house = house("");
    stopped(&house).await;
    std::fs::write(house.data().join("check-at-next-start"), "").unwrap();
    std::fs::remove_file(house.data().join("ballast")).unwrap();
    let told = Told::of(&house);
    told.sees("check-pending", "warning");
    told.sees("ballast-gone", "warning");
    let format = |version: u32| {
        let conn = rusqlite::Connection::open(house.data().join("journal.db")).unwrap();
        conn.execute_batch(&format!("PRAGMA user_version = {version}")).unwrap();
    };
    format(99);
    Told::of(&house).sees("format-newer", "serious");
    format(1);
    Told::of(&house).sees("format-older", "warning");
}

/// A disk of 24 MiB in a name space of the gateway's own, into which the doctor is sent as well.
#[tokio::test]
async fn a_full_disk_is_told() {
    let house = house("");
    let program = house.command();
    let mut command = Command::new("unshare");
    let small = "mkdir -p \"$1\" && mount -t tmpfs -o size=48m none \"$1\" && shift && exec \"$@\"";
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", small, "sh"]).arg(house.data());
    command.arg(program.get_program()).args(program.get_args());
    let gateway = house.launch_by(command).await;
    let doctor = || {
        let mut command = Command::new("nsenter");
        command.args(["--user", "--mount", "--preserve-credentials", "-t", &gateway.pid().to_string()]);
        command.args([PROGRAM, "doctor", "--json", "--config"]).arg(house.config());
        Told::by(command)
    };
    doctor().sees("disk-low", "warning");
    let filler = PathBuf::from(format!("/proc/{}/root{}/filler", gateway.pid(), house.data().display()));
    fill(&filler);
    doctor().sees("disk-full", "serious");
    std::fs::remove_file(filler).unwrap();
    doctor().sees_no("disk-full");
    gateway.stop().await;
}

fn fill(path: &Path) {
    use std::io::Write as _;
    let mut filler = std::fs::File::options().create(true).append(true).open(path).unwrap();
    while filler.write_all(&vec![0x5A; 64 << 10]).is_ok() {}
}

#[tokio::test]
async fn a_run_that_ended_without_a_word_is_told_until_the_next_orderly_stop() {
    let house = house("");
    stopped(&house).await;
    Told::of(&house).sees("clean-stop", "good");
    let gateway = house.launch().await;
    let mut pen = gateway.pen("sd-1").await;
    pen.publish(&topic("sd-1"), r#"{"temperature":21}"#).await;
    Told::of(&house).sees("clean-stop", "good");
    let killed_at = now();
    gateway.kill();
    let told = Told::of(&house);
    let unclean = told.sees("unclean-stop", "warning");
    let at = unclean["since_ms"].as_i64().unwrap();
    assert!((at - killed_at.as_millis()).abs() < 30_000, "{unclean}");
    let gateway = house.launch().await;
    // Once it has an answer, the journal has the start as well.
    gateway.pen("sd-1").await.publish(&topic("sd-1"), r#"{"temperature":22}"#).await;
    assert_eq!(Told::of(&house).sees("unclean-stop", "warning")["since_ms"], at);
    gateway.stop().await;
    Told::of(&house).sees("clean-stop", "good");
}

#[tokio::test]
async fn a_clock_that_is_unset_or_behind_the_journal_is_told() {
    let house = house("");
    stopped(&house).await;
    let patient = Patient::Config(house.config());
    let found = examine(&patient, Timestamp::from_secs(86_400));
    assert_eq!(find(&found, "clock-unset").map(|finding| finding.grade), Some(Grade::Serious));
    assert_eq!(find(&found, "clock-behind-journal").map(|finding| finding.grade), Some(Grade::Serious));
    let found = examine(&patient, now());
    assert!(find(&found, "clock-behind-journal").is_none() && find(&found, "clock").is_some(), "{found:?}");
}

/// The date of its firmware looks possible; only the gateway knows that it lies before its own records.
#[tokio::test]
async fn a_box_that_ntp_never_reached_is_told_although_its_date_looks_possible() {
    let (firmware, year) = (Timestamp::from_secs(1_740_000_000), Span::from_secs(365 * 86_400));
    let house = house("");
    let gateway = house.open_at(Clock::simulated(firmware + year)).await;
    gateway.pen("sd-1").await.publish(&topic("sd-1"), r#"{"temperature":20}"#).await;
    let doctor = || examine(&Patient::Data(house.data()), now());
    assert!(find(&doctor(), "clock-unset").is_none() && find(&doctor(), "clock").is_some());
    gateway.stop().await;

    let clock = Clock::simulated(firmware);
    let gateway = house.open_at(clock.clone()).await;
    let found = doctor();
    let unset = find(&found, "clock-unset").unwrap();
    assert_eq!(unset.grade, Grade::Serious);
    assert!(
        unset.what.zh.contains("开机后系统时钟还没有被校过") && unset.todo.zh.contains("NTP"),
        "{unset:?}"
    );
    assert!(unset.since.is_some_and(|since| since > firmware + year), "by the gateway's own time: {unset:?}");
    // It comes at last.
    clock.step_simulated((firmware + year + Span::from_secs(60)).since(firmware));
    gateway.wait("the clock is set", "/api/v1/health", |health| health["clock_believable"] == true).await;
    gateway.hazard("gateway/clock", "gateway-fault", |fault| fault["phase"] == "returned").await;
    assert!(find(&doctor(), "clock-unset").is_none());
    // It is lost at work.
    clock.step_simulated(Timestamp::EPOCH.since(firmware + year));
    gateway.hazard("gateway/clock", "gateway-fault", |fault| fault["phase"] == "active").await;
    assert!(find(&doctor(), "clock-unset").is_some());
    gateway.stop().await;
    // Nobody runs: then there is no time of its own that could be wrong.
    assert!(find(&doctor(), "clock-unset").is_none());
}

/// Writes notes into a journal that nobody has open, as the pipeline would.
async fn write_notes(data: &Path, notes: Vec<Note>) {
    let (journal, restored) = Journal::open(data, Limits::default(), Metrics::new()).unwrap();
    let entry = Entry {
        no: restored.head + 1,
        at: now(),
        recorded: true,
        readings: vec![],
        transitions: vec![],
        notes,
    };
    journal.append(Write::of(entry)).await.unwrap();
    let refused = r#"{"number":1,"sink":"town","reason":"timestamp outside retention"}"#;
    journal.put_document("influx-refused", "town:1", Some(refused), now()).await.unwrap();
}

#[tokio::test]
async fn a_step_of_the_clock_and_refused_points_are_told() {
    let house = house("");
    stopped(&house).await;
    let text = Text::new("系统时钟调整了 2 h", "the wall clock was stepped by 2 h");
    write_notes(&house.data(), vec![Note { kind: NoteKind::ClockStepped, subject: "clock".into(), text }])
        .await;
    let told = Told::of(&house);
    assert!(told.sees("clock-stepped", "warning")["what"]["zh"].as_str().unwrap().contains("2 h"));
    let refused = told.sees("points-refused", "warning");
    assert!(refused["what"]["zh"].as_str().unwrap().contains("retention"), "{refused}");
    let later = examine(&Patient::Data(house.data()), now() + Span::from_secs(8 * 86_400));
    assert!(find(&later, "clock-stepped").is_none(), "a week later it is no news");
}

#[tokio::test]
async fn a_store_that_is_away_is_told_with_its_name_and_for_how_long() {
    let closed = free_port();
    let house = house(&format!(
        "[[influx]]\nname = \"town\"\nurl = \"http://127.0.0.1:{closed}\"\norg = \"o\"\nbucket = \"b\"\n"
    ));
    let gateway = house.launch().await;
    let mut pen = gateway.pen("sd-1").await;
    pen.publish(&topic("sd-1"), r#"{"temperature":21}"#).await;
    // Cursors are written now and then, and when the gateway stops.
    gateway.stop().await;
    let gateway = house.launch().await;
    let found = examine(&Patient::Data(house.data()), now() + Span::from_secs(3 * 86_400));
    let behind = find(&found, "follower-behind").unwrap();
    assert_eq!((behind.about.as_deref(), behind.grade), (Some("influx:town"), Grade::Warning));
    assert!(behind.what.zh.contains("3 天"), "{behind:?}");
    assert!(find(&found, "series-behind").is_some(), "{found:?}");
    let found = examine(&Patient::Data(house.data()), now());
    assert!(find(&found, "follower-behind").is_none() && find(&found, "series").is_some(), "{found:?}");
    gateway.stop().await;
}

/// Every write to a file beyond its first byte fails from now on, as on a disk that is full; or no longer.
fn refuse_writes(gateway: &Gateway, refuse: bool) {
    let size = if refuse { "--fsize=1:unlimited" } else { "--fsize=unlimited:unlimited" };
    let pid = gateway.pid().to_string();
    assert!(Command::new("prlimit").args(["--pid", &pid, size]).status().unwrap().success());
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_is_told_and_afterwards_that_it_could_not() {
    let house = house("");
    let program = house.command();
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(program.get_program())
        .args(program.get_args());
    let gateway = house.launch_by(command).await;
    let mut pen = gateway.pen("sd-1").await;
    pen.publish(&topic("sd-1"), r#"{"temperature":20}"#).await;
    Told::of(&house).sees_no("journal-unwritable");
    refuse_writes(&gateway, true);
    pen.send(&topic("sd-1"), br#"{"smoke":1}"#, 77, false).await.unwrap();
    soon("the journal is known to be broken", async { while gateway.status("/readyz").await == 200 {} })
        .await;
    Told::of(&house).sees("journal-unwritable", "serious");
    // After some seconds a message is let go unrecorded, so that a fire behind it gets through.
    soon("the acknowledgement", pen.acknowledged()).await.unwrap();
    Told::of(&house).sees("readings-unrecorded", "warning");
    refuse_writes(&gateway, false);
    gateway.hazard("gateway/journal", "gateway-fault", |fault| fault["phase"] == "returned").await;
    let told = Told::of(&house);
    told.sees_no("journal-unwritable");
    let was = told.sees("journal-was-unwritable", "warning");
    assert!(was["since_ms"].is_number() && was["what"]["zh"].as_str().unwrap().contains("恢复"), "{was:#}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_journal_that_another_program_holds_is_told_as_unwritable() {
    let house = house("");
    let gateway = house.launch().await;
    let mut pen = gateway.pen("sd-1").await;
    pen.publish(&topic("sd-1"), r#"{"temperature":20}"#).await;
    let stuck = Stuck::hold(&house.data());
    pen.send(&topic("sd-1"), br#"{"smoke":1}"#, 77, false).await.unwrap();
    soon("the journal is known to stand still", async { while gateway.status("/readyz").await == 200 {} })
        .await;
    Told::of(&house).sees("journal-unwritable", "serious");
    stuck.release();
    gateway.hazard("sd-1/smoke", "smoke-fire", |fire| fire["recorded"] == true).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_process_that_hangs_is_told() {
    let house = house("");
    let gateway = house.launch().await;
    let signal = |name: &str| {
        let pid = gateway.pid().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    };
    signal("STOP");
    let told = Told::of(&house);
    signal("CONT");
    told.sees("running", "good");
    told.sees("not-answering", "serious");
    gateway.stop().await;
}

#[tokio::test]
async fn a_duty_log_that_somebody_changed_is_told() {
    let house = house("");
    stopped(&house).await;
    let conn = rusqlite::Connection::open(house.data().join("journal.db")).unwrap();
    conn.execute("DELETE FROM note WHERE id = 1", []).unwrap();
    drop(conn);
    let told = Told::of(&house);
    let broken = told.sees("audit-broken", "serious");
    assert!(broken["what"]["zh"].as_str().unwrap().contains("被删除"), "{broken}");
    told.sees("database", "good");
}

#[tokio::test]
async fn backups_that_fail_are_missing_or_grow_old_are_told() {
    let house_without = house("");
    Told::of(&house_without).sees_no("backup");
    stopped(&house_without).await;
    Told::of(&house_without).sees("backup-none", "warning");

    let usb = tempfile::tempdir_in("/dev/shm").unwrap();
    let dir = usb.path().join("fengsui");
    let house = house(&format!("[backup]\ndir = \"{}\"\nevery_hours = 24\n", dir.display()));
    stopped(&house).await;
    let told = Told::of(&house);
    told.sees("backup-target-missing", "warning");
    told.sees("backup-never", "warning");
    let failed = r#"{"at":1800000000000,"ok":false,"file":null,"bytes":0,"error":"U 盘不在","error_en":"no stick","good_at":null,"good_file":null}"#;
    let (journal, _) = Journal::open(&house.data(), Limits::default(), Metrics::new()).unwrap();
    journal.put_document("backup", "last", Some(failed), now()).await.unwrap();
    drop(journal);
    let told = Told::of(&house);
    assert!(told.sees("backup-failed", "warning")["what"]["zh"].as_str().unwrap().contains("U 盘不在"));
    std::fs::create_dir(&dir).unwrap();
    let (code, said) = House::tool(&["backup", "--config", house.config().to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    Told::of(&house).sees("backup", "good");
    let old = examine(&Patient::Config(house.config()), now() + Span::from_secs(5 * 86_400));
    assert!(find(&old, "backup-old").is_some_and(|old| old.what.zh.contains('5')), "{old:?}");
    // On the journal's own disk it is of little use.
    let near = house.config().with_file_name("backups");
    std::fs::create_dir(&near).unwrap();
    let text = std::fs::read_to_string(house.config()).unwrap();
    std::fs::write(house.config(), text.replace(dir.to_str().unwrap(), near.to_str().unwrap())).unwrap();
    Told::of(&house).sees("backup-same-disk", "warning");
}
