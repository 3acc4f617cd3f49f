"""What an encoder and codebook make of a batch of frames. Shapes: B frames, E embed_dim, h x w grid, K = h*w tokens."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Encoded:
    """Latents before and after quantisation, and the tokens that name them."""

    z: Tensor  # (B, E, h, w) as compared with the codes: of unit norm when the codebook is cosine
    z_quantized: Tensor  # (B, E, h, w) the nearest codes; their gradient reaches the codebook, not the encoder
    tokens_BK: Tensor  # (B, K) int64, row by row over the grid

    @property
    def straight_through(self) -> Tensor:
        """The codes as values with the gradient of `z` (van den Oord et al. 2017, section 3.2): what is decoded."""
        return self.z + (self.z_quantized - self.z).detach()
