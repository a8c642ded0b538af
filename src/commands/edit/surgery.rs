//! The changes that a command line may ask for, each on all layers of a model, and what became of these.

use egraft::Options;
use ir::Graph;
use passes::Cx;
use passes::edit::{self, Calibration, Layer, Merging, Mixing, Momentum, Router, Upcycling, Wanted};

use super::{Case, failure, run};
use crate::report::Failure;

/// A graph that is changed.
pub(super) struct Surgery<'a> {
    pub(super) graph: Graph,
    pub(super) cx: &'a Cx,
    pub(super) options: &'a Options,
    /// The data to calibrate on.
    pub(super) cases: &'a [Case],
    /// What was done so far.
    pub(super) changes: Vec<Change>,
}

/// What became of a layer.
pub(super) struct Change {
    pub(super) layer: String,
    /// What was done to it, in words.
    pub(super) done: String,
    /// How often each expert is chosen, on the data.
    pub(super) chosen: Vec<f64>,
    pub(super) experts: usize,
}

impl Surgery<'_> {
    pub(super) fn upcycle(&mut self, upcycling: Upcycling) -> Result<(), Failure> {
        let layers = edit::upcycle(&mut self.graph, upcycling).map_err(failure)?;
        let Upcycling { experts, chosen, .. } = upcycling;
        let done = format!("{experts} experts, of which a token chooses {chosen}");
        let change = |layer| Change { layer, done: done.clone(), chosen: Vec::new(), experts: 1 };
        self.changes.extend(layers.into_iter().map(change));
        self.clean()
    }

    pub(super) fn mix_layers(&mut self, mixing: Mixing) -> Result<(), Failure> {
        let layers = edit::mix_layers(&mut self.graph, mixing).map_err(failure)?;
        let (count, own) = (layers.len(), mixing.own);
        let done = format!(
            "one of {count} layers, to which it adds the one that a gate chooses; its own share is {own}"
        );
        let change = |layer| Change { layer, done: done.clone(), chosen: Vec::new(), experts: count };
        self.changes.extend(layers.into_iter().map(change));
        self.clean()
    }

    /// Leaves so many experts in each layer.
    pub(super) fn prune(&mut self, kept: usize) -> Result<(), Failure> {
        self.each(|surgery, layers, number| {
            let layer = &layers[number];
            let chosen = surgery.measured(layer, Wanted::default())?.chosen;
            let most = most_chosen(&chosen, kept);
            edit::prune(&mut surgery.graph, layer, &most).map_err(failure)?;
            let left = (0..layer.experts).filter(|expert| !most.contains(expert)).collect::<Vec<_>>();
            surgery.changes.push(Change::new(layer, format!("experts {left:?} are left out"), chosen));
            Ok(())
        })
    }

    /// Merges the experts of each layer to so many.
    pub(super) fn merge(&mut self, count: usize, merging: Merging) -> Result<(), Failure> {
        self.each(|surgery, layers, number| {
            let layer = &layers[number];
            let calibration = surgery.measured(layer, merging.wants())?;
            let groups =
                edit::merge(&mut surgery.graph, layer, count, merging, &calibration).map_err(failure)?;
            let members =
                |group| (0..groups.len()).filter(|&expert| groups[expert] == group).collect::<Vec<_>>();
            let members = (0..count).map(members).collect::<Vec<_>>();
            let done = format!("{} experts are {members:?}", layer.experts);
            surgery.changes.push(Change::new(layer, done, calibration.chosen));
            Ok(())
        })
    }

    pub(super) fn set_router(&mut self, router: Router) -> Result<(), Failure> {
        let name = Router::ALL.into_iter().find(|(_, one)| *one == router).map_or("", |(name, _)| name);
        self.each(|surgery, layers, number| {
            let is_set = edit::set_router(&mut surgery.graph, layers, number, router).map_err(failure)?;
            let done = match is_set {
                true => format!("the router is {name}"),
                false => "the router stays: there are no experts before".to_owned(),
            };
            surgery.changes.push(Change::new(&layers[number], done, Vec::new()));
            Ok(())
        })
    }

    pub(super) fn fold_shared(&mut self) -> Result<(), Failure> {
        for shared in edit::fold_shared(&mut self.graph).map_err(failure)? {
            let (name, experts) = (shared.name, shared.experts.collect::<Vec<_>>());
            let done =
                format!("the shared expert that ends in {name} is {experts:?}, which every token takes");
            self.changes.push(Change::new(&shared.layer, done, Vec::new()));
        }
        self.clean()
    }

    pub(super) fn set_momentum(&mut self, momentum: Momentum) -> Result<(), Failure> {
        let layers = edit::layers(&self.graph).map_err(failure)?;
        edit::set_momentum(&mut self.graph, &layers, momentum).map_err(failure)?;
        let done = match momentum {
            Momentum::On { mu, gamma } => format!("momentum with mu = {mu}, gamma = {gamma}"),
            Momentum::Off => "no momentum".to_owned(),
        };
        self.changes.extend(layers.iter().map(|layer| Change::new(layer, done.clone(), Vec::new())));
        self.clean()
    }

    /// A change of every layer, as it is found after those before were changed.
    fn each(
        &mut self,
        mut change: impl FnMut(&mut Self, &[Layer], usize) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        for number in 0..edit::layers(&self.graph).map_err(failure)?.len() {
            let layers = edit::layers(&self.graph).map_err(failure)?;
            change(self, &layers, number)?;
            self.clean()?;
        }
        Ok(())
    }

    fn clean(&mut self) -> Result<(), Failure> {
        let graph = std::mem::replace(&mut self.graph, Graph::new(""));
        self.graph = edit::clean(graph, self.cx).map_err(failure)?;
        Ok(())
    }

    /// What the data say of a layer.
    fn measured(&self, layer: &Layer, wanted: Wanted) -> Result<Calibration, Failure> {
        let shown = edit::probe(&self.graph, layer, wanted).map_err(failure)?;
        let mut calibration = Calibration::new(layer, wanted);
        for results in run(&shown, self.options, self.cases)? {
            calibration.add(&results);
        }
        Ok(calibration)
    }
}

impl Change {
    fn new(layer: &Layer, done: String, chosen: Vec<f64>) -> Change {
        Change { layer: layer.name.clone(), done, chosen, experts: layer.experts }
    }
}

/// The experts that are chosen most often, in their order.
fn most_chosen(chosen: &[f64], count: usize) -> Vec<usize> {
    let mut experts: Vec<usize> = (0..chosen.len()).collect();
    experts.sort_by(|&a, &b| chosen[b].total_cmp(&chosen[a]).then(a.cmp(&b)));
    experts.truncate(count);
    experts.sort_unstable();
    experts
}
