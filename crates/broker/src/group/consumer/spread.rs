//! Pure: spreading things over members evenly, and leaving where they are all that can stay.

use std::collections::BTreeMap;

/// Spreads `units` over `count` members that all take any of them. The shares differ by one at
/// most, and no spread that even moves fewer.
///
/// `holder` tells where a unit is now, if anywhere.
///
/// # Panics
/// If there are units and no members.
pub(super) fn evenly<U: Copy>(
    units: &[U],
    count: usize,
    holder: impl Fn(U) -> Option<usize>,
) -> Vec<Vec<U>> {
    let mut shares = vec![Vec::new(); count];
    if units.is_empty() {
        return shares;
    }
    let quota = units.len() / count;
    // So many members may hold one more.
    let mut extra = units.len() % count;
    let mut homeless = Vec::new();
    for unit in units {
        match holder(*unit) {
            Some(member) => shares[member].push(*unit),
            None => homeless.push(*unit),
        }
    }
    for share in &mut shares {
        let keeps_extra = quota < share.len() && 0 < extra;
        extra -= usize::from(keeps_extra);
        let kept = share.len().min(quota + usize::from(keeps_extra));
        homeless.extend(share.drain(kept..));
    }
    let mut homeless = homeless.into_iter();
    for share in &mut shares {
        let missing = quota.saturating_sub(share.len());
        share.extend(homeless.by_ref().take(missing));
    }
    let open = shares.iter_mut().filter(|share| share.len() == quota);
    for (share, unit) in open.zip(homeless) {
        share.push(unit);
    }
    shares
}

/// Spreads units of several kinds over members that each take some kinds only, until no single
/// move would make two members more even.
///
/// `kinds` lists for each kind its units and who takes them; a unit without takers stays out.
/// `holder` tells where a unit is now, if anywhere.
pub(super) fn by_kind<U: Copy + Ord>(
    kinds: &[(Vec<U>, Vec<usize>)],
    count: usize,
    holder: impl Fn(U) -> Option<usize>,
) -> Vec<Vec<U>> {
    let mut loads = vec![0_usize; count];
    // Of each kind, what each of its takers holds.
    let mut held: Vec<BTreeMap<usize, Vec<U>>> = Vec::with_capacity(kinds.len());
    let mut homeless = Vec::new();
    for (kind, (units, takers)) in kinds.iter().enumerate() {
        let mut by_taker: BTreeMap<usize, Vec<U>> =
            takers.iter().map(|taker| (*taker, Vec::new())).collect();
        for unit in units {
            let place = holder(*unit).and_then(|member| Some((member, by_taker.get_mut(&member)?)));
            if let Some((member, share)) = place {
                share.push(*unit);
                loads[member] += 1;
            } else if !takers.is_empty() {
                homeless.push((takers.len(), kind, *unit));
            }
        }
        held.push(by_taker);
    }
    // Those with the least choice come first.
    homeless.sort_unstable();
    for (_, kind, unit) in homeless {
        let (_, takers) = &kinds[kind];
        let least = takers.iter().min_by_key(|taker| loads[**taker]);
        let least = *least.expect("what has no takers was left out");
        held[kind].entry(least).or_default().push(unit);
        loads[least] += 1;
    }
    // Each move makes the sum of the squares of the loads smaller, so this ends.
    let mut is_settled = false;
    while !is_settled {
        is_settled = true;
        for by_taker in &mut held {
            while let Some((from, to)) = unevenest(by_taker, &loads) {
                let unit = by_taker.get_mut(&from).and_then(Vec::pop);
                let unit = unit.expect("who gives one away holds one");
                by_taker.entry(to).or_default().push(unit);
                loads[from] -= 1;
                loads[to] += 1;
                is_settled = false;
            }
        }
    }
    let mut shares = vec![Vec::new(); count];
    for by_taker in held {
        for (member, units) in by_taker {
            shares[member].extend(units);
        }
    }
    shares
}

/// The two members of a kind of whom one should give one unit of it to the other, if there are any.
fn unevenest<U>(by_taker: &BTreeMap<usize, Vec<U>>, loads: &[usize]) -> Option<(usize, usize)> {
    let givers = by_taker.iter().filter(|(_, units)| !units.is_empty());
    let from = givers.map(|(member, _)| *member).max_by_key(|member| loads[*member])?;
    let to = by_taker.keys().copied().min_by_key(|member| loads[*member])?;
    (loads[to] + 1 < loads[from]).then_some((from, to))
}
