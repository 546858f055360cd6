//! The scaling itself.

use nalgebra::{DMatrix, SymmetricEigen};

use crate::Distances;

/// Eigenvalues that are smaller, in parts of the largest one, are nothing but rounding.
const ROUNDING: f64 = 1e-10;

/// Points for entities, in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// The coordinates of each.
    pub points: Vec<Vec<f64>>,
    /// The part of the sum of the positive eigenvalues that the dimensions have; 1 if all points are one.
    pub share: f64,
    /// The sum of the negative ones in parts of that of the positive ones.
    pub negative: f64,
}

/// Places the entities in so many dimensions; coordinates beyond those that the distances need are 0.
pub fn embed(distances: &Distances, dimensions: usize) -> Embedding {
    if distances.ids().is_empty() {
        return Embedding {
            points: Vec::new(),
            share: 1.0,
            negative: 0.0,
        };
    }
    let eigen = SymmetricEigen::new(centred(distances.matrix()));
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|a, b| eigen.eigenvalues[*b].total_cmp(&eigen.eigenvalues[*a]));
    let largest = eigen.eigenvalues.amax();
    let value = |at: usize| match eigen.eigenvalues[at] {
        value if value.abs() > ROUNDING * largest => value,
        _ => 0.0,
    };
    let sum =
        |values: &mut dyn Iterator<Item = f64>| values.filter(|value| *value > 0.0).sum::<f64>();
    let positive = sum(&mut order.iter().map(|at| value(*at)));
    let negative = sum(&mut order.iter().map(|at| -value(*at)));
    let kept = sum(&mut order.iter().take(dimensions).map(|at| value(*at)));
    let part = |of: f64, none: f64| if positive > 0.0 { of / positive } else { none };
    let mut points = vec![vec![0.0; dimensions]; order.len()];
    for (dimension, at) in order.iter().take(dimensions).enumerate() {
        let axis = eigen.eigenvectors.column(*at);
        let scale = value(*at).max(0.0).sqrt() * direction(axis.iter().copied());
        for (point, coordinate) in points.iter_mut().zip(axis.iter()) {
            // Not minus zero.
            point[dimension] = scale * coordinate + 0.0;
        }
    }
    Embedding {
        points,
        share: part(kept, 1.0),
        negative: part(negative, 0.0),
    }
}

/// B = -½ J D² J: the scalar products of the points, with the origin in their middle.
fn centred(distances: &DMatrix<f64>) -> DMatrix<f64> {
    let squares = distances.map(|distance| distance * distance);
    let means = squares.row_mean();
    let mean = means.mean();
    DMatrix::from_fn(squares.nrows(), squares.ncols(), |row, column| {
        -0.5 * (squares[(row, column)] - means[row] - means[column] + mean)
    })
}

/// The sign of the coordinate that is largest in size, of the first of these: an eigenvector has none of its own.
fn direction(axis: impl Iterator<Item = f64>) -> f64 {
    let mut largest = 0.0_f64;
    for coordinate in axis {
        if coordinate.abs() > largest.abs() * (1.0 + ROUNDING) {
            largest = coordinate;
        }
    }
    if largest < 0.0 { -1.0 } else { 1.0 }
}
