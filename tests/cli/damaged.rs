//! Files that are not what they should be: cut, random, changed. All are refused or compiled, nothing panics.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use egraft::{ErrorKind, Options};
use harness::{Random, check_all, random_inputs, root};

use crate::{digits, folder, model, names, say};

/// Bytes that are not what they should be: cut at several places, and random.
fn spoiled(good: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut random = Random::new(good.len() as u64);
    let mut all: Vec<(String, Vec<u8>)> = [0, 1, 7, good.len() / 3, good.len() / 2, good.len() * 9 / 10]
        .into_iter()
        .map(|len| (format!("cut to {len} bytes"), good[..len].to_vec()))
        .collect();
    for len in [1, 16, 300, 5000] {
        all.push((format!("{len} random bytes"), (0..len).map(|_| random.bits() as u8).collect()));
    }
    all.push(("zeros".to_owned(), vec![0; 4096]));
    all
}

#[test]
fn damaged_models_are_refused() {
    let folder = folder();
    let dump = folder.path().join("dump");
    say(folder.path(), "compile {M} -o {D}/m --dump {D}/dump").succeeds();
    fs::remove_file(folder.path().join("m")).expect("it was written");
    let find = |extension: &str| {
        let name = names(&dump).into_iter().find(|name| name.ends_with(extension)).expect("it was dumped");
        dump.join(name)
    };
    let good = [
        ("onnx", digits()),
        ("ir", find(".ir")),
        ("kir", find(".kir")),
        ("prog", find(".prog")),
        ("bin", dump.join("weights.bin")),
    ];
    let place = folder.path().join("bad");
    fs::create_dir(&place).expect("writable");
    fs::copy(find(".ir"), place.join("whole.ir")).expect("writable");
    let mut count = 0;
    for (extension, good) in good {
        for (what, bytes) in spoiled(&fs::read(&good).expect("it is there")) {
            let is_weights = extension == "bin";
            let bad =
                if is_weights { place.join("weights.bin") } else { place.join(format!("m.{extension}")) };
            fs::write(&bad, &bytes).expect("writable");
            if !is_weights {
                fs::copy(dump.join("weights.bin"), place.join("weights.bin")).expect("writable");
            }
            let model = if is_weights { place.join("whole.ir") } else { bad };
            let model = model.display();
            let verbs = [
                format!("check {model}"),
                format!("compile {model} -o {{D}}/out"),
                format!("run {model}"),
                format!("opt {model}"),
            ];
            // One of the verbs for each is enough: they read models in one way.
            let done = say(folder.path(), &verbs[count % verbs.len()]);
            assert!(done.code == Some(2) && done.err.contains("egraft::"), "{extension} {what}: {done}");
            done.exits(2);
            assert_eq!(names(folder.path()), ["bad", "dump"], "{extension} {what}");
            count += 1;
        }
    }
    println!("{count} damaged models refused");
}

#[test]
fn damaged_tensors_are_refused() {
    let folder = folder();
    let x =
        runner::files::read_one(&root().join("models/zoo/digits/3.npy")).unwrap_or_else(|e| panic!("{e}"));
    let mut count = 0;
    for extension in ["npy", "npz", "safetensors"] {
        let (good, bad) = (folder.path().join("good").with_extension(extension), folder.path().join("bad"));
        let bad = bad.with_extension(extension);
        match extension {
            "npy" => drop(fs::copy(root().join("models/zoo/digits/3.npy"), &good).expect("writable")),
            _ => runner::files::write_all(&good, &[("image", &x)]).expect("writable"),
        }
        for (what, bytes) in spoiled(&fs::read(&good).expect("it is there")) {
            fs::write(&bad, &bytes).expect("writable");
            let option = if extension == "npy" { "" } else { "--inputs" };
            let done = say(folder.path(), &format!("run {{M}} {option} {{D}}/bad.{extension}"));
            assert!(done.code == Some(2), "{what}: {done}");
            done.refused(&format!("egraft::runner::{extension}"), &[]);
            count += 1;
        }
    }
    println!("{count} damaged files of tensors refused");
}

/// The same text with something changed: a character, a number, a word, a line.
fn changed_text(text: &str, random: &mut Random) -> String {
    const NUMBERS: [&str; 8] =
        ["0", "1", "-1", "3", "4294967296", "1099511627776", "9223372036854775807", "1e999"];
    let mut pick = |count: usize| (random.bits() % count.max(1) as u64) as usize;
    let lines: Vec<&str> = text.lines().collect();
    let row = pick(lines.len());
    let words: Vec<&str> = lines[row].split_inclusive([' ', ',', '(', ')', '[', ']', ':']).collect();
    let (word, other) = (pick(words.len()), pick(words.len()));
    let mut changed = lines[row].to_owned();
    match pick(6) {
        0 => return [&lines[..row], &lines[row + 1..]].concat().join("\n"),
        1 => return [&lines[..row], &[lines[pick(lines.len())]], &lines[row..]].concat().join("\n"),
        2 if !words.is_empty() => {
            let mut words = words;
            words.swap(word, other);
            changed = words.concat();
        }
        3 if !words.is_empty() => {
            let mut words = words;
            words[word] = words[other];
            changed = words.concat();
        }
        // The first number of the line from some place on.
        4 => {
            let from = words[..word].iter().map(|word| word.len()).sum::<usize>();
            if let Some(at) = changed[from..].find(|c: char| c.is_ascii_digit()) {
                let at = from + at;
                let end =
                    changed[at..].find(|c: char| !c.is_ascii_digit()).map_or(changed.len(), |len| at + len);
                changed.replace_range(at..end, NUMBERS[pick(NUMBERS.len())]);
            }
        }
        _ => {
            let at = changed.char_indices().nth(pick(changed.chars().count())).map(|(at, _)| at);
            if let Some(at) = at {
                let character = char::from(b' ' + pick(95) as u8);
                changed.replace_range(
                    at..at + changed[at..].chars().next().map_or(0, char::len_utf8),
                    &character.to_string(),
                );
            }
        }
    }
    [&lines[..row], &[changed.as_str()], &lines[row + 1..]].concat().join("\n")
}

/// The same bytes with a few changed.
fn changed_bytes(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    for _ in 0..1 + random.bits() % 3 {
        let at = random.bits() as usize % changed.len();
        changed[at] = match random.bits() % 3 {
            0 => bytes[random.bits() as usize % bytes.len()],
            1 => bytes[at] ^ 1 << (random.bits() % 8),
            _ => random.bits() as u8,
        };
    }
    changed
}

/// How often each file is changed.
const ROUNDS: usize = 60;

/// Whether what a changed graph computes natively is what it says, on random inputs; `None` where it is too large.
fn computes_what_it_says(path: &Path, compiled: &egraft::Compiled) -> Option<Result<(), String>> {
    const SIZE: i64 = 3;
    let entry = &compiled.program.entries[0];
    let types: Vec<ir::TensorType> = entry.inputs.iter().map(|port| port.ty.clone()).collect();
    let buffers = entry.buffers.iter().map(|buffer| &buffer.ty);
    for ty in types.iter().chain(entry.outputs.iter().map(|port| &port.ty)).chain(buffers) {
        let mut sizes = ty.shape.iter().map(|dim| dim.eval(&|_| Some(SIZE)));
        let elements = sizes.try_fold(1i64, |all, size| all.checked_mul(size?))?;
        (elements <= 10_000).then_some(())?;
    }
    let inputs = random_inputs(&types, 5, &|_| SIZE);
    let source = egraft::load(path, &Options::default()).expect("it was compiled");
    let passes::pipeline::State::Graph(graph) = &source.state else { panic!("a .ir is a graph") };
    let expected = reference::run_graph(graph, &inputs).map_err(|error| error.to_string());
    let found = compiled.run(&inputs, 2).map_err(|error| error.to_string());
    Some(match (expected, found) {
        (Ok(expected), Ok(found)) => check_all(&expected, &found),
        (Err(_), Err(_)) => Ok(()),
        (Ok(_), Err(error)) => Err(format!("only the native code refuses: {error}")),
        (Err(error), Ok(_)) => Err(format!("only the reference refuses: {error}")),
    })
}

/// Models in any form with a few things changed are compiled or refused. In this process, so that they can be many.
#[test]
fn changed_models_never_panic() {
    let folder = folder();
    let mut sources = Vec::new();
    for name in ["cnn_small", "mlp_gelu", "functions_nested", "shape_split_heads"] {
        let dump = folder.path().join(name);
        let line = format!("compile {} -o {{D}}/m --dump {}", model(name).display(), dump.display());
        say(folder.path(), &line).succeeds();
        fs::copy(model(name), dump.join("model.onnx")).expect("writable");
        for extension in [".onnx", ".ir", "to_stages.kir", "schedule.kir", ".prog"] {
            let of_kind = names(&dump).into_iter().rfind(|name| name.ends_with(extension));
            sources.push(dump.join(of_kind.unwrap_or_else(|| panic!("there is no {extension} of {name}"))));
        }
    }
    let mut random = Random::new(11);
    let (mut good, mut ran, mut refused, mut wrong) = (0, 0, 0, Vec::new());
    for source in sources {
        let bytes = fs::read(&source).expect("it is there");
        let extension = source.extension().and_then(OsStr::to_str).expect("they have one");
        // Beside the original: that is where weights are.
        let path = source.with_file_name(format!("changed.{extension}"));
        for _ in 0..ROUNDS {
            let changed = match std::str::from_utf8(&bytes).ok().filter(|_| extension != "onnx") {
                Some(text) => changed_text(text, &mut random).into_bytes(),
                None => changed_bytes(&bytes, &mut random),
            };
            fs::write(&path, &changed).expect("writable");
            let options = Options { verify: true, ..Options::default() };
            let compiled = std::panic::catch_unwind(|| {
                egraft::load(&path, &options).and_then(|model| egraft::compile(model, &options, &mut ()))
            });
            let why = match compiled {
                Ok(Ok(compiled)) => {
                    good += 1;
                    let verdict =
                        if extension == "ir" { computes_what_it_says(&path, &compiled) } else { None };
                    ran += usize::from(verdict.is_some());
                    match verdict {
                        Some(Err(why)) => format!("it computes something else: {why}"),
                        _ => continue,
                    }
                }
                Ok(Err(error)) if error.kind() != ErrorKind::Bug => {
                    refused += 1;
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it panics".to_owned(),
            };
            let what = source.strip_prefix(folder.path()).unwrap_or(&source).display();
            let difference = String::from_utf8_lossy(&changed)
                .lines()
                .zip(String::from_utf8_lossy(&bytes).lines())
                .find(|(is, was)| is != was)
                .map(|(is, was)| format!("  was {was}\n  is  {is}"));
            wrong.push(format!("{what}: {why}\n{}", difference.unwrap_or_default()));
        }
    }
    println!("{good} changed models compile, of which {ran} ran; {refused} are refused");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(ran > 20 && good > 100 && refused > 100, "all should be common: {ran}, {good}, {refused}");
}
