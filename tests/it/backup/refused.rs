//! What a backup and a restore refuse, and that nothing is harmed then.

use super::*;
use std::process::Command;

/// A gateway that ran once and was stopped, and a backup of it.
async fn backed_up() -> (House, tempfile::TempDir, PathBuf) {
    let house = House::build(BROKER, &smoke("sd-1", "broker"));
    let gateway = house.launch().await;
    let mut pen = gateway.pen("sd-1").await;
    pen.publish(&topic("sd-1"), r#"{"smoke":1}"#).await;
    gateway.hazard("sd-1/smoke", "smoke-fire", |fire| fire["recorded"] == true).await;
    gateway.stop().await;
    let usb = tempfile::tempdir().unwrap();
    let config = house.config();
    let (code, said) = House::tool(&["backup", "--config", text(&config), "--to", text(usb.path())]);
    assert_eq!(code, Some(0), "{said}");
    let backup = backup_in(usb.path());
    (house, usb, backup)
}

#[tokio::test]
async fn a_stick_that_is_not_there_is_told_in_words_and_by_the_exit_code() {
    let (house, usb, _) = backed_up().await;
    let away = usb.path().join("stick/fengsui");
    let config = house.config();
    let (code, said) = House::tool(&["backup", "--config", text(&config), "--to", text(&away)]);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("不存在") && said.contains("mkdir"), "{said}");
    assert!(!away.exists(), "it was not made on the bare mount point");
    let (code, said) = House::tool(&["backup", "--config", text(&config)]);
    assert_eq!(code, Some(64), "{said}");
}

/// With a name space of its own, in which something else is mounted over /etc/fstab.
#[tokio::test]
async fn nothing_is_written_to_a_mount_point_on_which_nothing_is_mounted() {
    let (house, usb, _) = backed_up().await;
    let bare = usb.path().join("bare");
    std::fs::create_dir_all(bare.join("fengsui")).unwrap();
    let fstab = usb.path().join("fstab");
    std::fs::write(&fstab, format!("UUID=1 {} vfat nofail 0 0\n", bare.display())).unwrap();
    let script = "mount --bind \"$1\" /etc/fstab && shift && exec \"$@\"";
    let mount = "mount -t tmpfs none \"$1\" && mkdir \"$1/fengsui\" && shift && exec \"$@\"";
    let tool = [env!("CARGO_BIN_EXE_fengsui"), "backup", "--config"];
    let run = |with_stick: bool| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(&fstab);
        if with_stick {
            command.args(["sh", "-c", mount, "sh"]).arg(&bare);
        }
        let output =
            command.args(tool).arg(house.config()).arg("--to").arg(bare.join("fengsui")).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, said) = run(false);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("没有挂载") && said.contains(text(&bare)), "{said}");
    assert_eq!(std::fs::read_dir(bare.join("fengsui")).unwrap().count(), 0, "nothing was written");
    let (code, said) = run(true);
    assert_eq!(code, Some(0), "{said}");
}

/// On a file system of 1 MiB in a name space of its own.
#[tokio::test]
async fn a_target_without_room_is_refused_before_anything_is_written() {
    let (house, usb, _) = backed_up().await;
    let small = usb.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let script = "mount -t tmpfs -o size=1m none \"$0\" && \"$@\"; code=$?; ls \"$0\"; exit $code";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(&small);
    command
        .args([env!("CARGO_BIN_EXE_fengsui"), "backup", "--config"])
        .arg(house.config())
        .arg("--to")
        .arg(&small);
    let output = command.output().unwrap();
    let (listed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("放不下") && said.contains("MiB"), "{said}");
    assert_eq!(listed.trim(), "", "nothing is left behind");
}

#[tokio::test]
async fn a_running_gateways_journal_is_not_replaced_and_another_one_only_when_asked() {
    let (house, _usb, backup) = backed_up().await;
    let gateway = house.launch().await;
    let config = house.config();
    let (code, said) = House::tool(&["restore", text(&backup), "--config", text(&config), "--replace"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("网关正在使用它") && said.contains(&gateway.pid().to_string()), "{said}");
    let mut pen = gateway.pen("sd-1").await;
    pen.publish(&topic("sd-1"), r#"{"temperature":33}"#).await;
    gateway.stop().await;

    let (code, said) = House::tool(&["restore", text(&backup), "--config", text(&config)]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("--replace"), "{said}");
    let (entries, _) = house.journal().await;
    assert_eq!(numbers_of(&entries, "sd-1/temperature"), [33.0], "nothing was touched");

    let (code, said) = House::tool(&["restore", text(&backup), "--config", text(&config), "--replace"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("没有删除"), "{said}");
    let aside = std::fs::read_dir(house.data()).unwrap().map(|entry| entry.unwrap().path());
    let aside: Vec<PathBuf> = aside
        .filter(|path| text(path).contains(".before-restore-") && !text(path).contains("-wal"))
        .collect();
    assert_eq!(aside.len(), 1, "{aside:?}");
    let old = tempfile::tempdir().unwrap();
    std::fs::copy(&aside[0], old.path().join("journal.db")).unwrap();
    let kept = Archive::open(old.path()).unwrap().entries_after(0, 1000).unwrap();
    assert_eq!(numbers_of(&kept, "sd-1/temperature"), [33.0], "the old journal is whole");
    let gateway = house.launch().await;
    gateway.hazard("sd-1/smoke", "smoke-fire", |_| true).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_backup_that_was_changed_is_not_restored() {
    let (house, _usb, backup) = backed_up().await;
    let other = house.another_box();
    let config = other.config();
    let restore = ["restore", text(&backup), "--config", text(&config), "--config-files"];
    let plan = backup.join("config/plan.toml");
    let right = std::fs::read(&plan).unwrap();
    std::fs::write(&plan, [right.as_slice(), b"#"].concat()).unwrap();
    let (code, said) = House::tool(&restore);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("备份不完整") && said.contains("plan.toml"), "{said}");
    std::fs::write(&plan, right).unwrap();

    let journal = backup.join("journal.db");
    let right = std::fs::read(&journal).unwrap();
    let mut wrong = right.clone();
    let middle = wrong.len() / 2;
    wrong[middle] ^= 1;
    std::fs::write(&journal, wrong).unwrap();
    let (code, said) = House::tool(&restore);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("journal.db"), "{said}");
    std::fs::write(&journal, right).unwrap();

    std::fs::remove_file(backup.join("manifest.json")).unwrap();
    let (code, said) = House::tool(&restore);
    assert_eq!(code, Some(69), "{said}");
    assert!(!other.config().exists() && !other.data().exists(), "nothing was put anywhere");
}

#[tokio::test]
async fn configuration_files_are_never_written_over() {
    let (house, _usb, backup) = backed_up().await;
    let other = house.another_box();
    let config = other.config();
    std::fs::write(&config, "plan = \"another.toml\"\n").unwrap();
    let (code, said) = House::tool(&["restore", text(&backup), "--config", text(&config), "--config-files"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("不覆盖"), "{said}");
    assert_eq!(std::fs::read_to_string(&config).unwrap(), "plan = \"another.toml\"\n");
    assert!(!config.with_file_name("plan.toml").exists());
}

#[tokio::test]
async fn a_changed_line_of_the_duty_log_is_named() {
    let (house, _usb, _) = backed_up().await;
    let data = house.data();
    let conn = rusqlite::Connection::open(data.join("journal.db")).unwrap();
    conn.execute("UPDATE note SET zh = '什么也没有发生' WHERE id = 1", []).unwrap();
    drop(conn);
    let (code, said) = House::tool(&["audit", "verify", "--config", text(&house.config())]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("内容被改动") && said.contains("was changed"), "{said}");
    let (code, said) = House::tool(&["audit", "verify", "--data", text(&data), "--expect", "7"]);
    assert_eq!(code, Some(64), "{said}");
}

#[tokio::test]
async fn secrets_go_with_a_backup_only_when_asked_and_the_oldest_backups_go() {
    let (house, usb, first) = backed_up().await;
    let users = house.config().with_file_name("broker.users");
    std::fs::write(&users, "hall:secret-word\n").unwrap();
    let config = std::fs::read_to_string(house.config()).unwrap();
    let config = config.replace("anonymous = true", "anonymous = true\ncredentials_file = \"broker.users\"");
    std::fs::write(house.config(), config).unwrap();
    std::fs::write(usb.path().join("a-persons-own"), "x").unwrap();
    let config = house.config();
    let backup =
        ["backup", "--config", text(&config), "--to", text(usb.path()), "--keep", "2", "--with-secrets"];
    let mut made = Vec::new();
    for _ in 0..2 {
        let (code, said) = House::tool(&backup);
        assert_eq!(code, Some(0), "{said}");
        made.push(said);
    }
    assert!(made[1].contains(text(&first)), "the first one goes: {}", made[1]);
    assert!(!first.exists());
    let left = std::fs::read_dir(usb.path()).unwrap().map(|entry| entry.unwrap().path());
    let mut left: Vec<PathBuf> = left.collect();
    left.sort();
    assert_eq!(left.len(), 3, "{left:?}");
    let newest = left.iter().rfind(|path| text(path).contains("fengsui-sunshine-")).unwrap();
    let secrets: Vec<PathBuf> =
        std::fs::read_dir(newest.join("secrets")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(std::fs::read_to_string(&secrets[0]).unwrap(), "hall:secret-word\n");
    assert_eq!(std::fs::metadata(&secrets[0]).unwrap().permissions().mode() & 0o777, 0o600);
}
