"""Choose by measuring, and prove it: samples of training, comparisons, reports, the doctor."""
