"""Grace Hopper, drawn by Langevin particles and washed out by a porous medium.

    dX = grad log q(X) dt + sqrt(2) dB    and    d_t rho = Lap rho^2

q is the darkness of a photograph (a file that ships with matplotlib). Particles start as
even dust and follow q smoothed at 7 scales, coarse to fine, with steps of Leimkuhler and
Matthews (doi:10.1093/amrx/abs010). Porous-medium flow (doi:10.1081/PDE-100002243) then
diffuses the density with a diffusivity 2 rho: dark parts melt first, light ones stay.
"""

# %%
import numpy as np
from matplotlib.cbook import get_sample_data
from matplotlib.image import imread
from scipy.ndimage import gaussian_filter

import flows as fl
from flows import plotting

N = 200_000
