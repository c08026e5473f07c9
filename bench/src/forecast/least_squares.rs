//! Costs from several runs: non-negative least squares over a handful of columns.

/// One run: what it did by column, and what that took.
pub(super) struct Row<const N: usize> {
    pub(super) amounts: [f64; N],
    pub(super) cost: f64,
}

/// The non-negative costs of the columns that fit best, each row weighed by its own cost so that
/// relative errors count; `None` if the rows do not tell the columns apart.
pub(super) fn fit<const N: usize>(rows: &[Row<N>]) -> Option<[f64; N]> {
    // A column that would come out negative costs nothing: every set of columns is tried.
    let mut best: Option<(f64, [f64; N])> = None;
    let all = (1_usize << N) - 1;
    if rows.len() < N || solve(rows, all).is_none() {
        return None;
    }
    for columns in 1..=all {
        let Some(costs) = solve(rows, columns) else { continue };
        if costs.iter().any(|cost| *cost < 0.0) {
            continue;
        }
        let error: f64 = rows.iter().map(|row| row.error(&costs).powi(2)).sum();
        if best.is_none_or(|(least, _)| error < least) {
            best = Some((error, costs));
        }
    }
    best.map(|(_, costs)| costs)
}

impl<const N: usize> Row<N> {
    /// How far off the costs are, as a share of the row's.
    fn error(&self, costs: &[f64; N]) -> f64 {
        let found: f64 = self.amounts.iter().zip(costs).map(|(amount, cost)| amount * cost).sum();
        found / self.cost - 1.0
    }
}

/// The normal equations over a set of columns, by Gaussian elimination.
fn solve<const N: usize>(rows: &[Row<N>], columns: usize) -> Option<[f64; N]> {
    let weighed = |row: &Row<N>, column: usize| row.amounts[column] / row.cost;
    // Columns of like size, or rounding would decide.
    let scale: [f64; N] = std::array::from_fn(|column| {
        rows.iter().map(|row| weighed(row, column).powi(2)).sum::<f64>().sqrt()
    });
    let used: Vec<usize> = (0..N).filter(|column| columns & (1 << column) != 0).collect();
    if used.iter().any(|&column| scale[column] == 0.0) {
        return None;
    }
    let at = |row: &Row<N>, column: usize| weighed(row, column) / scale[column];
    let mut matrix: Vec<Vec<f64>> = used
        .iter()
        .map(|&i| {
            let left = used.iter().map(|&j| rows.iter().map(|row| at(row, i) * at(row, j)).sum());
            left.chain([rows.iter().map(|row| at(row, i)).sum()]).collect()
        })
        .collect();
    let count = used.len();
    for pivot in 0..count {
        let best = (pivot..count)
            .max_by(|&a, &b| matrix[a][pivot].abs().total_cmp(&matrix[b][pivot].abs()))?;
        matrix.swap(pivot, best);
        if matrix[pivot][pivot].abs() < ALIKE {
            return None;
        }
        let reduced = matrix[pivot].clone();
        for row in (0..count).filter(|&row| row != pivot) {
            let factor = matrix[row][pivot] / reduced[pivot];
            for (value, from) in matrix[row].iter_mut().zip(&reduced) {
                *value -= factor * from;
            }
        }
    }
    let mut costs = [0.0; N];
    for (index, &column) in used.iter().enumerate() {
        costs[column] = matrix[index][count] / matrix[index][index] / scale[column];
    }
    Some(costs)
}

/// Columns of length 1 whose difference is smaller are the same.
const ALIKE: f64 = 1e-4;

#[cfg(test)]
mod tests {
    use super::{Row, fit};

    #[test]
    fn the_costs_that_rows_were_made_from_are_found() {
        let made = |amounts: [f64; 3]| Row {
            cost: amounts[0] * 0.2 + amounts[1] * 5e-6 + amounts[2] * 3e-8,
            amounts,
        };
        let rows = [
            made([4.0, 8192.0, 0.0]),
            made([0.1, 8192.0, 1e6]),
            made([2.0, 90_000.0, 0.0]),
            made([2.0, 8192.0, 5e5]),
        ];
        let costs = fit(&rows).expect("told apart");
        for (found, expected) in costs.iter().zip([0.2, 5e-6, 3e-8]) {
            assert!((found / expected - 1.0).abs() < 1e-6, "{costs:?}");
        }
    }

    #[test]
    fn what_would_be_negative_costs_nothing() {
        let rows = [
            Row { amounts: [1.0, 0.0], cost: 1.0 },
            Row { amounts: [1.0, 1.0], cost: 0.9 },
            Row { amounts: [2.0, 3.0], cost: 1.9 },
        ];
        let costs = fit(&rows).expect("told apart");
        assert_eq!(costs[1], 0.0);
        assert!((costs[0] - 0.95).abs() < 0.05, "{costs:?}");
    }

    #[test]
    fn runs_of_one_shape_tell_nothing_apart() {
        let row = |times: f64| Row { amounts: [times, 2.0 * times], cost: times };
        assert_eq!(fit(&[row(1.0), row(2.0), row(3.0)]), None);
        assert_eq!(fit(&[Row { amounts: [1.0, 0.0], cost: 1.0 }]), None, "fewer rows than columns");
    }
}
