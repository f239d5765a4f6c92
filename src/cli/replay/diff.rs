//! `fengsui replay`: what is expected beside what came. Pure.

/// Lines that are compared: without blank ones and remarks, and without spaces at their ends.
pub(super) fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim_end).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// Longer logs are compared from their ends only: the table of 2000 × 2000 lines below has 16 MB.
const LINES_MAX: usize = 2000;

/// What is missing as `- line` and what is too much as `+ line`, in their order; `None`: they are the same.
pub(super) fn diff(expected: &[&str], came: &[&str]) -> Option<String> {
    if expected == came {
        return None;
    }
    let begin = expected.iter().zip(came).take_while(|(a, b)| a == b).count();
    let (expected, came) = (&expected[begin..], &came[begin..]);
    let end = expected.iter().rev().zip(came.iter().rev()).take_while(|(a, b)| a == b).count();
    let (expected, came) = (&expected[..expected.len() - end], &came[..came.len() - end]);
    let mut text = String::new();
    let mut line = |mark: char, line: &str| {
        text.push(mark);
        text.push(' ');
        text.push_str(line);
        text.push('\n');
    };
    if expected.len() > LINES_MAX || came.len() > LINES_MAX {
        expected.iter().for_each(|missing| line('-', missing));
        came.iter().for_each(|surplus| line('+', surplus));
        return Some(text);
    }
    // How many lines the rests have in common, from each place on.
    let width = came.len() + 1;
    let mut common = vec![0_u32; (expected.len() + 1) * width];
    for i in (0..expected.len()).rev() {
        for j in (0..came.len()).rev() {
            common[i * width + j] = if expected[i] == came[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < expected.len() || j < came.len() {
        let same = i < expected.len() && j < came.len() && expected[i] == came[j];
        if same {
            (i, j) = (i + 1, j + 1);
        } else if j == came.len()
            || (i < expected.len() && common[(i + 1) * width + j] >= common[i * width + j + 1])
        {
            line('-', expected[i]);
            i += 1;
        } else {
            line('+', came[j]);
            j += 1;
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_differs_is_told_and_in_order() {
        let expected = lines("# a remark\na\nb\n\nc\nd  \n");
        assert_eq!(diff(&expected, &["a", "b", "c", "d"]), None);
        assert_eq!(diff(&expected, &["a", "x", "c", "d"]).unwrap(), "- b\n+ x\n");
        assert_eq!(diff(&expected, &["a", "c", "y", "d", "z"]).unwrap(), "- b\n+ y\n+ z\n");
        assert_eq!(diff(&expected, &[]).unwrap(), "- a\n- b\n- c\n- d\n");
    }

    proptest! {
        /// Taking away what is marked `-` and adding what is marked `+` makes one of the other.
        #[test]
        fn the_difference_is_the_whole_difference(
            expected in prop::collection::vec("[abc]", 0..12), came in prop::collection::vec("[abc]", 0..12)
        ) {
            let (old, new): (Vec<&str>, Vec<&str>) =
                (expected.iter().map(String::as_str).collect(), came.iter().map(String::as_str).collect());
            let told = diff(&old, &new).unwrap_or_default();
            let of = |mark: &str| told.lines().filter_map(|l| l.strip_prefix(mark)).map(str::trim).collect::<Vec<_>>();
            let left = |all: &[&str], gone: &[&str]| {
                let mut counts = [0_i32; 3];
                for line in all { counts[usize::from(line.as_bytes()[0] - b'a')] += 1; }
                for line in gone { counts[usize::from(line.as_bytes()[0] - b'a')] -= 1; }
                counts
            };
            prop_assert_eq!(left(&old, &of("-")), left(&new, &of("+")));
            prop_assert_eq!(told.is_empty(), old == new);
        }
    }
}
