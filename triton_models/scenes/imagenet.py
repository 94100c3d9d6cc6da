"""Scene probabilities from the 1,000 classes of ImageNet (Russakovsky et al., arXiv:1409.0575).

A class that is nearly always photographed in one kind of scene votes for that scene with its
probability. The other classes (dogs, clothes, most tools) do not vote. This is the fallback where
no scene was labelled; docs/segmentation.md compares its accuracy with that of learnt labels. The
class ids are those of the challenge of 2012, in the order of the WordNet ids.
"""

import numpy as np

from triton_models.scenes.classes import SCENES, Scene

CLASSES = 1000

# Inclusive ranges of class ids.
_IDS: dict[Scene, str] = {
    "indoor": (
        # furniture, rooms, shops
        "406 415 421 423-424 431 435 453-454 467 492-493 495 498 509 516 520 526-528 532 548 556"
        " 559 564 579 582 598 619 624 648 669 687 721 727 736 741 750 753 762 765 782 788-789 794"
        " 799 811 818-819 831 846 854 857 860-861 865 876 884 894 896-897 904-905"
        # kitchens, screens, instruments and machines that stand on a table
        " 398 401-402 409 418 420 422 426 432 438 440-441 446 469-470 473 478 481-482 485-487"
        " 504-505 508 521 530-531 534 543-545 550 558 567 572 589-590 592-594 604-606 613 618"
        " 620 622 632 644 647 650-651 659 662 664 666 673 681 683-684 688 700 709-714 719-720 725"
        " 729 732 739 742 745 754 759-761 766-767 769 772-773 778 786 798 804 809-810 813 826-828"
        " 840 844-845 848-849 851 855 859 868 878 881-883 886 889 891-892 899 907 909-910"
        # prints, meals, pets in cages
        " 281-285 333 338 916-918 921-935 959-969 999"
    ),
    "natural": (
        # wild animals; horses, cattle and sheep in the open
        "0-150 269-280 286-332 334-337 339-397"
        # outdoor activities outside towns, and standing stones (see landmarks/scenes.py)
        " 410 448 450 472 537 599 649 672 693 701 730 795 801-802 815 856 866 912"
        # mountains, shores, plants, fungi
        " 936-958 970 972-980 983-998"
    ),
    "urban": (
        # buildings and what else is built outdoors
        "425 437 442 449 460 483 489 497 500 517 525 536 538 540 557 562 580-581 646 660 663 668"
        " 682 698 704 706-708 716 718 733 743 755 807 821 825 832 839 853 858 863 873 888 900"
        # streets, stations, harbours and airports
        " 403-405 407-408 412 436 444 466 468 475-476 479-480 484 510-511 547 554-555 561 565 569"
        " 571 573 575-576 586 603 609 612 625 627-628 637 640 654 656-657 661 665 670 675 694 703"
        " 705 717 724 734 751 757 779-781 791 803 812 814 817 820 829 847 864 867 871 874 877 880"
        " 895 908 913-914 919-920"
    ),
}


def _ids(text: str) -> list[int]:
    ends = [part.partition("-") for part in text.split()]
    return [k for first, _, last in ends for k in range(int(first), int(last or first) + 1)]


VOTES = np.zeros((CLASSES, len(SCENES)), np.float32)
"""[1000, 3]: 1 where a class of ImageNet votes for a scene, else 0."""
for _column, _scene in enumerate(SCENES):
    VOTES[_ids(_IDS[_scene]), _column] = 1


def scene_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Return the scenes' probabilities [..., 3] for ImageNet's [..., 1000]; each row sums to 1.

    A probability is the share of the votes. All are equal where no voting class has probability.
    """
    votes = probabilities @ VOTES + 1e-6
    shares: np.ndarray = votes / votes.sum(axis=-1, keepdims=True)
    return shares
