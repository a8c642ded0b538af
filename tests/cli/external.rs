//! External data of ONNX models: inside the model's folder by name and by link, and not outside.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use harness::program::call;
use harness::root;

use crate::{case, folder, say};

/// Copies the model with external data: `weights_a.bin`, `data/weights_b.bin`, `data/bias.bin`.
fn with_external_data(folder: &Path) {
    let from = case("external_data");
    fs::create_dir_all(folder.join("data")).expect("writable");
    for file in ["model.onnx", "weights_a.bin", "data/weights_b.bin", "data/bias.bin"] {
        fs::copy(from.join(file), folder.join(file)).expect("it is there");
    }
}

#[test]
fn external_data_stays_inside_its_folder() {
    let folder = folder();
    let place = folder.path().join("model");
    with_external_data(&place);
    let check = |line: &str| say(folder.path(), line);
    check("check {D}/model/model.onnx").succeeds();
    let expected = format!("verify {{D}}/model/model.onnx --data {}", case("external_data").display());
    check(&expected).succeeds();
    for invalid in ["external_parent", "external_parent_inside", "external_absolute"] {
        let model = root().join("tests/data/onnx/invalid").join(invalid).join("model.onnx");
        call([OsStr::new("check"), model.as_os_str()]).refused("egraft::onnx::external_path", &["w"]);
    }
}

#[cfg(unix)]
#[test]
fn links_are_followed_inside_only() {
    use std::os::unix::fs::symlink;
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let check = |line: &str| say(folder.path(), line);

    // Out of the folder: a file, a folder, and a link behind a link.
    for escape in ["file", "data", "twice"] {
        let place = at(escape);
        with_external_data(&place);
        let outside = at(&format!("outside-{escape}"));
        fs::create_dir(&outside).expect("writable");
        match escape {
            "data" => {
                fs::rename(place.join("data"), outside.join("data")).expect("writable");
                symlink(outside.join("data"), place.join("data")).expect("writable");
            }
            _ => {
                fs::rename(place.join("weights_a.bin"), outside.join("w")).expect("writable");
                if escape == "twice" {
                    symlink(outside.join("w"), place.join("data/inner")).expect("writable");
                    symlink("data/inner", place.join("weights_a.bin")).expect("writable");
                } else {
                    symlink(outside.join("w"), place.join("weights_a.bin")).expect("writable");
                }
            }
        }
        let done = check(&format!("check {{D}}/{escape}/model.onnx"));
        done.refused("egraft::onnx::external_path", &["link"]);
    }

    // Inside of the folder.
    let place = at("inside");
    with_external_data(&place);
    fs::rename(place.join("weights_a.bin"), place.join("data/a")).expect("writable");
    symlink("data/a", place.join("weights_a.bin")).expect("writable");
    check("check {D}/inside/model.onnx").succeeds();

    // As model hubs do it: snapshots of links into a folder of blobs.
    let (snapshot, blobs) = (at("hub/snapshots/abc"), at("hub/blobs"));
    with_external_data(&snapshot);
    fs::create_dir_all(&blobs).expect("writable");
    for (blob, file, up) in [
        ("1f", "model.onnx", "../.."),
        ("2a", "weights_a.bin", "../.."),
        ("3b", "data/weights_b.bin", "../../.."),
        ("4c", "data/bias.bin", "../../.."),
    ] {
        fs::rename(snapshot.join(file), blobs.join(blob)).expect("writable");
        symlink(format!("{up}/blobs/{blob}"), snapshot.join(file)).expect("writable");
    }
    check("check {D}/hub/snapshots/abc/model.onnx").succeeds();
    let line = "verify {D}/hub/snapshots/abc/model.onnx --data";
    check(&format!("{line} {}", case("external_data").display())).succeeds();
    // A blob that is a link out of the hub is an escape, too.
    let outside = at("outside-hub");
    fs::rename(blobs.join("2a"), &outside).expect("writable");
    symlink(&outside, blobs.join("2a")).expect("writable");
    check("check {D}/hub/snapshots/abc/model.onnx").refused("egraft::onnx::external_path", &["link"]);
}
