//! Tree-sliced distances against optimal transport itself: exact costs on small trees by a solver of this test, closed
//! forms, invariances, and what memory and kernels the models take.

use std::collections::BTreeMap;

use egraft::{Compiled, Options, summary};
use harness::Tolerance;
use ir::{Dim, Tensor};

/// Single precision over some hundred sums.
const TOLERANCE: Tolerance = Tolerance { atol: 2e-5, rtol: 1e-4 };

fn compiled(model: &str, settings: &[(&str, &str)]) -> Compiled {
    let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let options = Options { settings, ..Options::default() };
    let source = egraft::source::build(model, &options).unwrap_or_else(|error| panic!("{model}: {error}"));
    egraft::compile(source, &options, &mut ()).unwrap_or_else(|error| panic!("{model}: {error}"))
}

fn value(model: &Compiled, inputs: &[Tensor]) -> f64 {
    let found = model.run(inputs, 2).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(found[0].shape(), [1]);
    found[0].get(0).to_f64()
}

#[track_caller]
fn assert_near(found: f64, expected: f64) {
    let most = TOLERANCE.atol + TOLERANCE.rtol * expected.abs();
    assert!((found - expected).abs() <= most, "{found} is not {expected}");
}

/// Rows of numbers.
type Rows = Vec<Vec<f64>>;

/// Numbers that look like none in particular.
struct Numbers(u64);

impl Numbers {
    /// From −1 to 1, exact in `f32`.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(((self.0 >> 33) as f64 / f64::from(1u32 << 30) - 1.0) as f32)
    }

    fn rows(&mut self, count: usize, width: usize) -> Rows {
        (0..count).map(|_| (0..width).map(|_| self.next()).collect()).collect()
    }

    /// Unit vectors, at right angles to the first of these, if there are some.
    fn units(&mut self, count: usize, width: usize, across: Option<&[f64]>) -> Rows {
        let mut rows = self.rows(count, width);
        for row in &mut rows {
            if let Some(across) = across {
                let along = dot(row, across);
                row.iter_mut().zip(across).for_each(|(x, across)| *x -= along * across);
            }
            let length = dot(row, row).sqrt();
            row.iter_mut().for_each(|x| *x /= length);
        }
        rows
    }

    /// Masses that sum to 1.
    fn masses(&mut self, count: usize) -> Vec<f64> {
        let masses: Vec<f64> = (0..count).map(|_| self.next().abs() + 0.05).collect();
        let sum: f64 = masses.iter().sum();
        masses.into_iter().map(|mass| mass / sum).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn tensor(shape: &[usize], rows: &[Vec<f64>]) -> Tensor {
    let numbers: Vec<f32> = rows.iter().flatten().map(|&x| x as f32).collect();
    Tensor::from_f32(shape, &numbers)
}

fn points(rows: &Rows) -> Tensor {
    tensor(&[rows.len(), rows[0].len()], rows)
}

fn masses(numbers: &[f64]) -> Tensor {
    tensor(&[numbers.len()], &[numbers.to_vec()])
}

/// The least cost of moving supplies to demands of the same sum: shortest augmenting paths in the network of what is moved
/// and can be taken back (Bellman, Ford).
fn transport(supplies: &[f64], demands: &[f64], cost: &dyn Fn(usize, usize) -> f64) -> f64 {
    const DONE: f64 = 1e-13;
    let (n, m) = (supplies.len(), demands.len());
    let (mut left, mut wanted) = (supplies.to_vec(), demands.to_vec());
    let mut moved = vec![vec![0.0; m]; n];
    loop {
        let mut to: Vec<f64> = left.iter().map(|&l| if l > DONE { 0.0 } else { f64::INFINITY }).collect();
        to.extend(vec![f64::INFINITY; m]);
        let mut from = vec![usize::MAX; n + m];
        let mut changed = true;
        while changed {
            changed = false;
            for i in 0..n {
                for j in 0..m {
                    let forth = to[i] + cost(i, j);
                    if forth < to[n + j] - 1e-12 {
                        (to[n + j], from[n + j], changed) = (forth, i, true);
                    }
                    let back = to[n + j] - cost(i, j);
                    if moved[i][j] > DONE && back < to[i] - 1e-12 {
                        (to[i], from[i], changed) = (back, n + j, true);
                    }
                }
            }
        }
        let open = (0..m).filter(|&j| wanted[j] > DONE && to[n + j].is_finite());
        let Some(end) = open.min_by(|&a, &b| to[n + a].total_cmp(&to[n + b])) else { break };
        let mut path = vec![n + end];
        while let Some(&last) = path.last()
            && from[last] != usize::MAX
        {
            path.push(from[last]);
        }
        let start = path[path.len() - 1];
        let mut amount = wanted[end].min(left[start]);
        for step in path.windows(2).filter(|step| step[0] < n) {
            amount = amount.min(moved[step[0]][step[1] - n]);
        }
        for step in path.windows(2) {
            match step[0] >= n {
                true => moved[step[1]][step[0] - n] += amount,
                false => moved[step[0]][step[1] - n] -= amount,
            }
        }
        left[start] -= amount;
        wanted[end] -= amount;
    }
    assert!(left.iter().all(|&l| l < 1e-9), "supplies are left: {left:?}");
    (0..n).flat_map(|i| (0..m).map(move |j| (i, j))).map(|(i, j)| moved[i][j] * cost(i, j)).sum()
}

#[test]
fn the_solver_finds_what_can_be_computed_by_hand() {
    // On a line, the cost is that of the sorted order.
    let at = [[0.0, 2.0, 5.0], [1.0, 1.5, 7.0]];
    let cost = |i: usize, j: usize| f64::abs(at[0][i] - at[1][j]);
    assert!((transport(&[1.0; 3], &[1.0; 3], &cost) - 3.5).abs() < 1e-12);
    // Half of the first goes to each; what was moved at first is taken back.
    let costs = [[1.0, 1.2], [1.0, 5.0]];
    assert!((transport(&[1.0, 1.0], &[1.0, 1.0], &|i, j| costs[i][j]) - 2.2).abs() < 1e-12);
}

/// Where a point's mass goes: line, coordinate, mass.
type Place = (usize, f64, f64);

/// The split of a point among the lines of a tree, by distances to them.
fn by_distance(x: &[f64], mass: f64, theta: &Rows, from: &Rows, delta: f64) -> Vec<Place> {
    let mut places = Vec::new();
    let mut weights = Vec::new();
    for (l, theta) in theta.iter().enumerate() {
        let from = &from[l % from.len()];
        let off: Vec<f64> = x.iter().zip(from).map(|(x, s)| x - s).collect();
        let t = dot(&off, theta);
        let rest: Vec<f64> = off.iter().zip(theta).map(|(x, theta)| x - t * theta).collect();
        weights.push((-delta * dot(&rest, &rest).sqrt()).exp());
        places.push((l, t, mass));
    }
    let sum: f64 = weights.iter().sum();
    places.iter_mut().zip(weights).for_each(|(place, weight)| place.2 *= weight / sum);
    places
}

/// The mean over trees of what transport costs on a tree with this distance.
fn on_trees(
    trees: usize,
    places: &dyn Fn(usize) -> [Vec<Place>; 2],
    distance: &dyn Fn(usize, Place, Place) -> f64,
) -> f64 {
    let each = (0..trees).map(|tree| {
        let [x, y] = places(tree);
        let [supplies, demands] = [&x, &y].map(|at| at.iter().map(|place| place.2).collect::<Vec<f64>>());
        transport(&supplies, &demands, &|i, j| distance(tree, x[i], y[j]))
    });
    each.sum::<f64>() / trees as f64
}

/// The distance on a tree whose lines meet in their origins.
fn through_root(_: usize, (i, u, _): Place, (j, v, _): Place) -> f64 {
    if i == j { (u - v).abs() } else { u.abs() + v.abs() }
}

const SIZES: (usize, usize, usize, usize) = (5, 7, 3, 3);

#[test]
fn stars_cost_what_transport_on_them_costs() {
    let ((n, m, trees, lines), mut numbers) = (SIZES, Numbers(1));
    let settings = [("form", "given"), ("trees", "3"), ("lines", "3"), ("weighted", "true"), ("delta", "2")];
    let model = compiled("db-tsw", &settings);
    for far in [0.1, 3.0] {
        let (x, y) = (numbers.rows(n, 3), numbers.rows(m, 3));
        let (a, b) = (numbers.masses(n), numbers.masses(m));
        let theta: Vec<Rows> = (0..trees).map(|_| numbers.units(lines, 3, None)).collect();
        let root: Rows = numbers.rows(trees, 3).iter().map(|r| r.iter().map(|x| far * x).collect()).collect();
        let places = |tree: usize| {
            [(&x, &a), (&y, &b)].map(|(points, masses)| {
                let of = points.iter().zip(masses);
                of.flat_map(|(x, &u)| by_distance(x, u, &theta[tree], &vec![root[tree].clone()], 2.0))
                    .collect()
            })
        };
        let expected = on_trees(trees, &places, &through_root);
        let inputs = [
            points(&x),
            points(&y),
            tensor(&[trees, lines, 3], &theta.concat()),
            tensor(&[trees, 1, 3], &root),
            masses(&a),
            masses(&b),
        ];
        assert_near(value(&model, &inputs), expected);
    }
}

#[test]
fn chains_cost_what_transport_on_them_costs() {
    let ((n, m, trees, lines), mut numbers) = (SIZES, Numbers(2));
    let settings = [
        ("form", "given"),
        ("trees", "3"),
        ("lines", "3"),
        ("tree", "chain"),
        ("split", "distance"),
        ("weighted", "true"),
        ("delta", "1.5"),
    ];
    let model = compiled("tsw-sl", &settings);
    let (x, y) = (numbers.rows(n, 3), numbers.rows(m, 3));
    let (a, b) = (numbers.masses(n), numbers.masses(m));
    let theta: Vec<Rows> = (0..trees).map(|_| numbers.units(lines, 3, None)).collect();
    let (first, junction) = (numbers.rows(trees, 3), numbers.rows(trees, lines - 1));
    let from = |tree: usize| {
        let mut from = vec![first[tree].clone()];
        for l in 0..lines - 1 {
            let step = theta[tree][l].iter().map(|x| x * junction[tree][l]);
            from.push(from[l].iter().zip(step).map(|(s, step)| s + step).collect());
        }
        from
    };
    let places = |tree: usize| {
        [(&x, &a), (&y, &b)].map(|(points, masses)| {
            let of = points.iter().zip(masses);
            of.flat_map(|(x, &u)| by_distance(x, u, &theta[tree], &from(tree), 1.5)).collect()
        })
    };
    let distance = |tree: usize, p: Place, q: Place| {
        let ((i, u, _), (j, v, _)) = if p.0 <= q.0 { (p, q) } else { (q, p) };
        if i == j {
            return (u - v).abs();
        }
        let between: f64 = junction[tree][i + 1..j].iter().map(|t| t.abs()).sum();
        (u - junction[tree][i]).abs() + between + v.abs()
    };
    let expected = on_trees(trees, &places, &distance);
    let inputs = [
        points(&x),
        points(&y),
        tensor(&[trees, lines - 1], &junction),
        tensor(&[trees, lines, 3], &theta.concat()),
        tensor(&[trees, 1, 3], &first),
        masses(&a),
        masses(&b),
    ];
    assert_near(value(&model, &inputs), expected);
}

#[test]
fn spherical_trees_cost_what_transport_on_them_costs() {
    let ((n, m, trees, lines), mut numbers) = (SIZES, Numbers(3));
    let settings = [
        ("form", "given"),
        ("dim", "4"),
        ("trees", "3"),
        ("lines", "3"),
        ("weighted", "true"),
        ("p", "1"),
        ("delta", "2"),
    ];
    let model = compiled("stsw", &settings);
    let (x, y) = (numbers.units(n, 4, None), numbers.units(m, 4, None));
    let (a, b) = (numbers.masses(n), numbers.masses(m));
    let root = numbers.units(trees, 4, None);
    let dirs: Vec<Rows> = (0..trees).map(|tree| numbers.units(lines, 4, Some(&root[tree]))).collect();
    let split = |tree: usize, y: &[f64], mass: f64| {
        let q = dot(y, &root[tree]);
        let sine = (1.0 - q * q).sqrt();
        let angles = dirs[tree].iter().map(|dir| (dot(y, dir) / sine).clamp(-1.0, 1.0).acos());
        let weights: Vec<f64> = angles.map(|angle| (-2.0 * angle * sine).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let places = weights.into_iter().enumerate();
        places.map(|(l, weight)| (l, q.acos(), mass * weight / sum)).collect::<Vec<Place>>()
    };
    let places = |tree: usize| {
        [(&x, &a), (&y, &b)]
            .map(|(points, masses)| points.iter().zip(masses).flat_map(|(x, &u)| split(tree, x, u)).collect())
    };
    let expected = on_trees(trees, &places, &through_root);
    let inputs = [
        points(&x),
        points(&y),
        tensor(&[trees, 1, 4], &root),
        tensor(&[trees, lines, 4], &dirs.concat()),
        masses(&a),
        masses(&b),
    ];
    assert_near(value(&model, &inputs), expected);
}

#[test]
fn uniform_trees_are_sliced_wasserstein_and_the_tree_does_not_matter() {
    let mut numbers = Numbers(4);
    let (x, y) = (numbers.rows(20, 3), numbers.rows(20, 3));
    let theta = numbers.units(12, 3, None);
    let sliced = compiled("sw", &[("form", "given"), ("lines", "12"), ("p", "1")]);
    let sliced = value(&sliced, &[points(&x), points(&y), tensor(&[12, 3], &theta)]);
    let star = compiled("tsw-sl", &[("form", "given"), ("trees", "3"), ("lines", "4")]);
    for far in [0.0, 100.0] {
        let root: Rows = vec![vec![far; 3]; 3];
        let inputs = [points(&x), points(&y), tensor(&[3, 4, 3], &theta), tensor(&[3, 1, 3], &root)];
        assert_near(value(&star, &inputs), sliced);
    }
    // The closed form with roots, of given masses that are equal.
    let settings = [("form", "given"), ("trees", "3"), ("lines", "4"), ("weighted", "true")];
    let root = numbers.rows(3, 3);
    let equal = masses(&[0.05; 20]);
    let inputs = [points(&x), points(&y), tensor(&[3, 4, 3], &theta), tensor(&[3, 1, 3], &root)];
    let weighted = [&inputs[..], &[equal.clone(), equal]].concat();
    assert_near(value(&compiled("tsw-sl", &settings), &weighted), sliced);
    // So is the split by distances whose sharpness is 0.
    let settings = [("form", "given"), ("trees", "3"), ("lines", "4"), ("delta", "0")];
    assert_near(value(&compiled("db-tsw", &settings), &inputs), sliced);
}

#[test]
fn on_a_line_sliced_wasserstein_is_that_of_the_sorted_points() {
    let mut numbers = Numbers(5);
    for p in [1.0, 2.0, 3.0] {
        let (x, y) = (numbers.rows(31, 1), numbers.rows(31, 1));
        let sorted = |rows: &Rows| {
            let mut all: Vec<f64> = rows.concat();
            all.sort_by(f64::total_cmp);
            all
        };
        let pairs = sorted(&x).into_iter().zip(sorted(&y));
        let mean = pairs.map(|(x, y)| (x - y).abs().powf(p)).sum::<f64>() / 31.0;
        let model = compiled("sw", &[("form", "given"), ("dim", "1"), ("lines", "2"), ("p", &p.to_string())]);
        let theta = tensor(&[2, 1], &[vec![1.0], vec![-1.0]]);
        assert_near(value(&model, &[points(&x), points(&y), theta]), mean.powf(1.0 / p));
    }
}

#[test]
fn the_order_of_points_is_nothing_and_neither_is_the_distance_to_oneself() {
    let mut numbers = Numbers(6);
    let (flat, round) = (numbers.rows(40, 3), numbers.units(40, 3, None));
    let (other, other_round) = (numbers.rows(40, 3), numbers.units(40, 3, None));
    for (model, unit) in [
        ("tsw-sl", false),
        ("db-tsw", false),
        ("db-tsw-perp", false),
        ("stsw", true),
        ("sw", false),
        ("swgg", false),
        ("lcvsw", false),
        ("s3w", true),
        ("ssw", true),
    ] {
        let (x, y) = if unit { (&round, &other_round) } else { (&flat, &other) };
        let trees =
            if ["tsw-sl", "db-tsw", "db-tsw-perp", "stsw"].contains(&model) { "trees" } else { "lines" };
        let built = compiled(model, &[(trees, "8")]);
        let apart = value(&built, &[points(x), points(y)]);
        assert!(apart > 1e-3, "{model}: {apart}");
        let mut shuffled = x.clone();
        shuffled.reverse();
        shuffled.swap(3, 17);
        let again = value(&built, &[points(&shuffled), points(y)]);
        assert!((again - apart).abs() <= 1e-5 * apart, "{model}: {again} is not {apart}");
        let nothing = value(&built, &[points(x), points(x)]);
        assert!(nothing.abs() <= 1e-4 * apart, "{model}: {nothing}");
    }
}

#[test]
fn sampled_trees_are_the_same_everywhere_and_those_of_few_are_the_first_of_many() {
    let mut numbers = Numbers(7);
    let inputs = [points(&numbers.rows(9, 3)), points(&numbers.rows(4, 3))];
    let each =
        |trees: &str, seed: &str| value(&compiled("db-tsw", &[("trees", trees), ("seed", seed)]), &inputs);
    // Computed in f64 by another program, which draws trees as the sampler says that it does.
    assert_near(each("5", "0"), 0.653_437_03);
    assert_near(each("5", "1"), 0.592_667_19);
    let frames = compiled("db-tsw-perp", &[("trees", "6"), ("seed", "3")]);
    assert_near(value(&frames, &inputs), 0.648_744_65);
    // The mean of 2 trees, both of which are among the first 3.
    let (one, two, three) = (each("1", "0"), each("2", "0"), each("3", "0"));
    let (second, third) = (2.0 * two - one, 3.0 * three - 2.0 * two);
    assert!(second > 0.0 && third > 0.0 && (second - one).abs() > 1e-6, "{one} {second} {third}");
}

/// How many kernels of each kind.
fn kinds(model: &Compiled) -> BTreeMap<&'static str, usize> {
    let calls = model.program.entries.iter().flat_map(|entry| entry.calls());
    let mut kinds = BTreeMap::new();
    calls.for_each(|call| *kinds.entry(model.program.kernels[call.kernel].kind.name()).or_insert(0) += 1);
    kinds
}

#[test]
fn a_tree_sliced_distance_is_three_kernels() {
    let expected = BTreeMap::from([("fused", 1), ("sort", 1), ("scan", 1)]);
    for model in ["tsw-sl", "db-tsw", "db-tsw-perp", "stsw"] {
        assert_eq!(kinds(&compiled(model, &[])), expected, "{model}");
    }
    for settings in [&[("weighted", "true")][..], &[("p", "2")], &[("form", "given")]] {
        assert_eq!(kinds(&compiled("db-tsw", settings)), expected, "{settings:?}");
    }
    assert_eq!(kinds(&compiled("sw", &[])), BTreeMap::from([("fused", 2), ("sort", 1)]));
}

/// Bytes of memory for each point and each line of the trees that are in memory at once: 4 for its coordinate and 4 for its
/// mass, 12 for coordinates in order with their places, 16 for sorting, and some for what lines share.
const BYTES: i64 = 48;

#[test]
fn memory_grows_with_points_lines_and_the_trees_of_a_block() {
    let (lines, points) = (4, 100_000);
    for model in ["tsw-sl", "db-tsw", "stsw"] {
        for (trees, block) in [(6, 0), (6, 2), (60, 2), (60, 1)] {
            let [of, all] = [block, trees].map(|count: i64| count.to_string());
            let model = compiled(model, &[("trees", &all), ("lines", "4"), ("block", &of)]);
            let (arena, _) = summary::peaks_at(&model.program, &|_| Some(points)).expect("it is planned");
            let at_once = if block == 0 { trees } else { block };
            assert!(arena <= BYTES * 2 * points * lines * at_once, "{trees} trees, {block} at once: {arena}");
        }
    }
}

#[test]
fn blocks_of_trees_cost_what_all_of_them_cost() {
    let mut numbers = Numbers(8);
    let (flat, round) = (numbers.rows(30, 3), numbers.units(30, 3, None));
    let masses = [masses(&numbers.masses(30)), masses(&numbers.masses(30))];
    let chain = [("tree", "chain"), ("split", "logits")];
    for (model, settings, points_of) in [
        ("tsw-sl", &chain[..], &flat),
        ("db-tsw", &[], &flat),
        ("db-tsw-perp", &[], &flat),
        ("stsw", &[], &round),
    ] {
        let (x, y) = points_of.split_at(13);
        let inputs = [points(&x.to_vec()), points(&y.to_vec())];
        let of = |block: &str, weighted: &str, inputs: &[Tensor]| {
            let own = [("trees", "6"), ("block", block), ("weighted", weighted)];
            value(&compiled(model, &[settings, &own].concat()), inputs)
        };
        assert_near(of("2", "false", &inputs), of("0", "false", &inputs));
        let inputs = [&[points(points_of), points(points_of)], &masses[..]].concat();
        assert_near(of("3", "true", &inputs), of("0", "true", &inputs));
    }
}

#[test]
fn no_array_has_more_than_one_element_for_each_point_and_line() {
    let (trees, lines, points) = (6, 4, 100_000);
    for model in ["tsw-sl", "db-tsw", "stsw"] {
        let model = compiled(model, &[("trees", "6"), ("lines", "4")]);
        let sizes = |symbol: &ir::Symbol| ["n", "m"].contains(&symbol.name()).then_some(points);
        let most = 2 * points * trees * lines;
        let mut seen = 0;
        for buffer in model.program.entries.iter().flat_map(|entry| &entry.buffers) {
            let elements: Dim = buffer.ty.elements();
            let elements = elements.eval(&sizes).expect("sizes are those of the inputs");
            // Scratch memory of a sort has pairs.
            assert!(elements <= 2 * most, "{}: {}", buffer.name, buffer.ty);
            seen = seen.max(elements);
        }
        assert!(seen >= points, "buffers are looked at");
    }
}
