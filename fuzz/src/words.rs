//! Texts changed in a word or a line.

use crate::random::Random;

/// Changes the text in `data[..size]`, which may become `max_size` long, and says how long it is then. What is no text
/// is changed byte by byte.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut random = Random::new(seed);
    let text = if random.one_in(4) { None } else { std::str::from_utf8(&data[..size]).ok() };
    let changed = text.filter(|text| !text.is_empty()).map(|text| {
        if random.one_in(4) {
            let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
            move_one(&mut lines, &mut random);
            return lines.concat();
        }
        let mut words: Vec<String> = words(text).into_iter().map(str::to_owned).collect();
        for _ in 0..=random.below(3) {
            change(&mut words, &mut random);
        }
        words.concat()
    });
    match changed.filter(|text| text.len() <= max_size) {
        Some(text) => {
            data[..text.len()].copy_from_slice(text.as_bytes());
            text.len()
        }
        None => libfuzzer_sys::fuzzer_mutate(data, size, max_size),
    }
}

/// Words and numbers, and each other sign for itself.
fn words(text: &str) -> Vec<&str> {
    let of_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = match of_word(first) {
            true => rest.find(|c| !of_word(c)).unwrap_or(rest.len()),
            false => first.len_utf8(),
        };
        let (word, after) = rest.split_at(end);
        words.push(word);
        rest = after;
    }
    words
}

/// Takes one item away, or puts it elsewhere, too.
fn move_one<T: Clone>(items: &mut Vec<T>, random: &mut Random) {
    let (from, to) = (random.below(items.len()), random.below(items.len()));
    match random.below(3) {
        0 => {
            items.remove(from);
        }
        1 => items.insert(to, items[from].clone()),
        _ => items.swap(from, to),
    }
}

fn change(words: &mut Vec<String>, random: &mut Random) {
    if words.is_empty() {
        return;
    }
    let is_number = |word: &String| word.bytes().all(|byte| byte.is_ascii_digit());
    let at = random.below(words.len());
    match random.below(4) {
        0 => move_one(words, random),
        1 => {
            let numbers: Vec<usize> = (0..words.len()).filter(|&at| is_number(&words[at])).collect();
            if let Some(&at) = numbers.get(random.below(numbers.len())) {
                words[at] = random.int().to_string();
            }
        }
        // A word is replaced by one, a sign by one.
        _ => {
            let is_word = |word: &String| word.starts_with(char::is_alphanumeric);
            let like: Vec<usize> =
                (0..words.len()).filter(|&other| is_word(&words[other]) == is_word(&words[at])).collect();
            words[at] = words[like[random.below(like.len())]].clone();
        }
    }
}
