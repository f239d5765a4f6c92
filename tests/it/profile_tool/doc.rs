//! `fengsui profile doc`: the tables of a folder are written by the command, and only when they have to be.

use super::{shipped, tool};
use std::path::Path;

fn folder(with: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("xy/xy-md02.toml");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, shipped("xy/xy-md02")).unwrap();
    if !with.is_empty() {
        std::fs::write(folder.path().join("README.md"), with).unwrap();
    }
    folder
}

#[test]
fn the_tables_of_a_folder_are_written_anew_and_a_stale_one_is_told() {
    let (code, said) = tool(&["doc", "--check"]);
    assert_eq!(code, Some(0), "{said}");

    let page = "# Mine\n<!-- catalogue -->\nold\n<!-- end -->\nbetween\n<!-- classes -->\n<!-- end -->\n<!-- hazard categories -->\n<!-- end -->\nafter\n";
    let folder = folder(page);
    let path = folder.path().to_str().unwrap();
    let readme = || std::fs::read_to_string(Path::new(path).join("README.md")).unwrap();
    let (code, said) = tool(&["doc", path, "--check"]);
    assert!(code == Some(1) && said.contains("not current"), "{said}");
    assert_eq!(readme(), page, "--check changes nothing");
    let (code, said) = tool(&["doc", path]);
    assert!(code == Some(0) && said.contains("已更新"), "{said}");
    let written = readme();
    for part in ["# Mine\n", "| `xy/xy-md02` |", "<!-- end -->\nbetween\n", "| `smoke_alarm` |", "\nafter\n"]
    {
        assert!(written.contains(part), "{part:?} is missing:\n{written}");
    }
    assert!(!written.contains("\nold\n"));
    assert_eq!(tool(&["doc", path, "--check"]).0, Some(0));
}

#[test]
fn without_a_page_the_tables_are_printed_and_a_page_without_markers_is_left_alone() {
    let bare = folder("");
    let (code, said) = tool(&["doc", bare.path().to_str().unwrap()]);
    assert_eq!(code, Some(0));
    assert!(said.contains("| `xy/xy-md02` |") && said.contains("| `battery` |"), "{said}");
    assert!(!bare.path().join("README.md").exists());

    let unmarked = folder("# Mine\n");
    let (code, said) = tool(&["doc", unmarked.path().to_str().unwrap()]);
    assert!(code == Some(64) && said.contains("<!-- catalogue -->"), "{said}");

    // A table in which a broken profile is missing would say that there is none.
    let broken = folder("<!-- catalogue --><!-- end --><!-- classes --><!-- end -->");
    std::fs::write(broken.path().join("xy/bad.toml"), "[device").unwrap();
    let (code, _) = tool(&["doc", broken.path().to_str().unwrap()]);
    assert_eq!(code, Some(64));
    assert!(!std::fs::read_to_string(broken.path().join("README.md")).unwrap().contains("xy-md02"));
}
