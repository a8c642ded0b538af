//! The equations of `einsum`: which axes of operands and result are the same.

/// The name of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    /// One of those that `...` stands for, counted from the right.
    Ellipsis(usize),
    /// A letter.
    Letter(char),
}

/// The names of all axes.
#[derive(Debug, PartialEq, Eq)]
pub struct Equation {
    /// Of each operand; a name may come twice.
    pub operands: Vec<Vec<Label>>,
    /// Of the result; each name once, and in one of the operands.
    pub result: Vec<Label>,
}

impl Equation {
    /// What `text` says of operands of these ranks, or what is wrong with it.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str, ranks: &[usize]) -> Result<Equation, &'static str> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let (left, right) = match text.split_once("->") {
            Some((left, right)) => (left, Some(right)),
            None => (text.as_str(), None),
        };
        let terms: Vec<&str> = left.split(',').collect();
        if terms.len() != ranks.len() {
            return Err("it has another number of terms than there are operands");
        }
        let operands: Vec<Vec<Label>> =
            terms.iter().zip(ranks).map(|(term, &rank)| labels(term, rank)).collect::<Result<_, _>>()?;
        let all: Vec<Label> = operands.iter().flatten().copied().collect();
        let widest = all.iter().filter_map(|label| match label {
            Label::Ellipsis(place) => Some(place + 1),
            Label::Letter(_) => None,
        });
        let hidden: Vec<Label> = (0..widest.max().unwrap_or(0)).rev().map(Label::Ellipsis).collect();
        let result = match right {
            None => {
                let once = |label: &&Label| all.iter().filter(|other| other == label).count() == 1;
                let mut letters: Vec<Label> = all.iter().filter(once).copied().collect();
                letters.retain(|label| matches!(label, Label::Letter(_)));
                letters.sort_unstable();
                [hidden, letters].concat()
            }
            Some(right) => {
                if !hidden.is_empty() && !right.contains("...") {
                    return Err("the result leaves out the axes of `...`");
                }
                let letters = right.chars().filter(|c| c.is_ascii_alphabetic()).count();
                labels(right, letters + if right.contains("...") { hidden.len() } else { 0 })?
            }
        };
        for (place, label) in result.iter().enumerate() {
            if result[..place].contains(label) {
                return Err("a letter comes twice in the result");
            }
            if !all.contains(label) {
                return Err("a letter of the result is in no operand");
            }
        }
        Ok(Equation { operands, result })
    }
}

/// The names in one term, for a tensor of this rank.
fn labels(term: &str, rank: usize) -> Result<Vec<Label>, &'static str> {
    let letters = |text: &str| -> Result<Vec<Label>, &'static str> {
        let label = |c: char| match c.is_ascii_alphabetic() {
            true => Ok(Label::Letter(c)),
            false => Err("it may hold letters, commas, one `->`, and one `...` in each term"),
        };
        text.chars().map(label).collect()
    };
    let wrong = "a term has another number of axes than its operand";
    let (before, after) = match term.split_once("...") {
        None => (letters(term)?, None),
        Some((before, after)) => (letters(before)?, Some(letters(after)?)),
    };
    match after {
        None if before.len() == rank => Ok(before),
        None => Err(wrong),
        Some(after) => {
            let hidden = rank.checked_sub(before.len() + after.len()).ok_or(wrong)?;
            Ok(before.into_iter().chain((0..hidden).rev().map(Label::Ellipsis)).chain(after).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(labels: &[Label]) -> String {
        let letter = |label: &Label| match label {
            Label::Letter(letter) => letter.to_string(),
            Label::Ellipsis(place) => place.to_string(),
        };
        labels.iter().map(letter).collect()
    }

    #[test]
    fn axes_get_their_names() {
        for (equation, ranks, operands, result) in [
            ("ij,jk->ik", &[2, 2][..], &["ij", "jk"][..], "ik"),
            (" b a , a c ", &[2, 2], &["ba", "ac"], "bc"),
            ("bA", &[2], &["bA"], "Ab"),
            ("ii", &[2], &["ii"], ""),
            ("...ij,...jk", &[4, 3], &["10ij", "0jk"], "10ik"),
            ("a...b->b...", &[2], &["ab"], "b"),
            ("i...->...i", &[3], &["i10"], "10i"),
            (",i->i", &[0, 1], &["", "i"], "i"),
            ("->", &[0], &[""], ""),
        ] {
            let parsed = Equation::parse(equation, ranks).unwrap_or_else(|why| panic!("{equation}: {why}"));
            let found: Vec<String> = parsed.operands.iter().map(|labels| text(labels)).collect();
            assert_eq!(
                (found.as_slice(), text(&parsed.result).as_str()),
                (&operands.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()[..], result),
                "{equation}"
            );
        }
    }

    #[test]
    fn equations_that_do_not_fit_say_why() {
        for (equation, ranks, why) in [
            ("ij,jk->ik", &[2][..], "terms"),
            ("ij->i", &[3], "axes"),
            ("ij...", &[1], "axes"),
            ("i1", &[2], "letters"),
            ("i......", &[2], "letters"),
            ("ij->k", &[2], "in no operand"),
            ("ij->ii", &[2], "twice"),
            ("...i->i", &[2], "leaves out"),
            ("i->i->i", &[1], "letters"),
        ] {
            let found = Equation::parse(equation, ranks).expect_err(equation);
            assert!(found.contains(why), "{equation}: {found}");
        }
    }
}
