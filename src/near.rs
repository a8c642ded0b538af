//! Names that may have been meant: what a message suggests instead of a name that there is not.

/// So many suggestions are read.
const MOST: usize = 3;

/// The names that are most like `name`, the nearest first: those that hold it, or differ in a third of its letters.
pub(crate) fn near<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = name.to_lowercase();
    let mut found: Vec<(usize, &str)> = Vec::new();
    for candidate in known {
        let lower = candidate.to_lowercase();
        let holds = !wanted.is_empty() && lower.contains(&wanted);
        let distance = if holds { 0 } else { edits(&wanted, &lower) };
        if holds || 3 * distance <= wanted.chars().count().max(3) {
            found.push((distance, candidate));
        }
    }
    found.sort_unstable();
    found.dedup();
    found.into_iter().take(MOST).map(|(_, candidate)| candidate).collect()
}

/// The suggestion as a sentence, or `otherwise` where nothing is near.
pub(crate) fn suggestion<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
    otherwise: &str,
) -> String {
    let near: Vec<String> = near(name, known).into_iter().map(|near| format!("`{near}`")).collect();
    if near.is_empty() { otherwise.to_owned() } else { format!("did you mean {}?", near.join(" or ")) }
}

/// How many letters must be put in, taken out or replaced (Levenshtein's distance).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, distance) in [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("fuse", "fuze", 1)] {
            assert_eq!((edits(a, b), edits(b, a)), (distance, distance), "{a} {b}");
        }
    }

    #[test]
    fn what_is_near_is_suggested() {
        let known = ["attention", "softmax-unshifted", "softmax-from-quotient"];
        assert_eq!(near("atention", known), ["attention"]);
        assert_eq!(near("softmax", known), ["softmax-from-quotient", "softmax-unshifted"]);
        assert_eq!(near("unroll", known), [""; 0]);
        assert_eq!(suggestion("Attention", known, "look"), "did you mean `attention`?");
        assert_eq!(suggestion("", known, "look"), "look");
    }
}
